package hold

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// That an answer to another process lifted the hold is known too if it is found in
// what there was as the watch began, or by a probe that is faster than the watch.
func TestLiftThatTheWatchMissed(t *testing.T) {
	t.Parallel()
	c := Call{Credential: EndpointKey("http://a", "sk", ""), Model: model}
	due := func(cfg *Config) { cfg.Probe, cfg.MaxProbe = time.Nanosecond, time.Nanosecond }
	answer := func(e *env, k Key) error { return e.kv.Purge(e.T.Context(), string(k)) }
	operator := func(e *env, k Key) error { return e.kv.Delete(e.T.Context(), string(k)) }
	newBucket := func(e *env, _ Key) error {
		err := e.JS.DeleteKeyValue(e.T.Context(), streams.HoldsBucket)
		e.ensure()
		return err
	}
	watch := func(e *env, r *Registry) { e.run(r) }
	probe := func(e *env, r *Registry) { r.Admit(c); e.writeNext(r) }
	for name, tc := range map[string]struct {
		settings func(*Config)
		lift     func(*env, Key) error
		find     func(*env, *Registry)
		alone    bool
	}{
		"a watch finds an answer":      {still, answer, watch, true},
		"a watch finds an operator":    {still, operator, watch, false},
		"a watch finds another bucket": {still, newBucket, watch, false},
		"a probe finds an answer":      {due, answer, probe, true},
		"a probe finds an operator":    {due, operator, probe, false},
		"a probe finds another bucket": {due, newBucket, probe, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			r, k := e.place(c, tc.settings)
			if err := tc.lift(e, k); err != nil {
				t.Fatal(err)
			}
			tc.find(e, r)
			testenv.Eventually(t, "it is lifted", func() bool { return isFree(r) })
			r.Refused(c, refused(batch.CauseNoSuchHost))
			r.mu.Lock()
			defer r.mu.Unlock()
			if alone := r.states[k].local; alone != tc.alone {
				t.Errorf("it holds itself alone: %t, want %t", alone, tc.alone)
			}
		})
	}
}

// What the watch sends late says nothing of a hold that was written since.
func TestWatchIsBehind(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := Call{Credential: EndpointKey("http://a", "sk", ""), Model: model}
	r, k := e.place(c, still)
	w, err := e.kv.WatchAll(t.Context(), jetstream.IncludeHistory())
	if err != nil {
		t.Fatal(err)
	}
	late := []jetstream.KeyValueEntry{<-w.Updates()}
	<-w.Updates() // the end of what there was
	r.Answered(c, time.Now(), true)
	e.writeNext(r)
	late = append(late, <-w.Updates())
	r.take(late[0])
	if !isFree(r) {
		t.Error("what this process lifted is held again by its own entry")
	}
	before := r.revisions()
	r.Refused(c, refused(batch.CauseNoSuchHost))
	r.take(late[1])
	if isFree(r) {
		t.Error("a hold that is not written yet is lifted by an answer before it")
	}
	e.writeNext(r)
	for _, entry := range late {
		r.take(entry)
	}
	r.replace(map[Key]jetstream.KeyValueEntry{}, before)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.states[k]; s == nil || s.over || !s.mine || len(r.relapsed) != 0 {
		t.Errorf("the new hold is %+v after what the watch sent late; relapses: %v", s, r.relapsed)
	}
}

// place returns a registry that is refused and has written its hold, but does not
// follow the bucket yet.
func (e *env) place(c Call, settings func(*Config)) (*Registry, Key) {
	e.T.Helper()
	r := e.bind(after(1), settings)
	r.Refused(c, refused(batch.CauseNoSuchHost))
	e.writeNext(r)
	for k := range e.list() {
		return r, k
	}
	e.T.Fatal("no hold is in the bucket")
	return nil, ""
}

func (e *env) writeNext(r *Registry) {
	e.T.Helper()
	if err := r.nextWrite(e.T.Context())(); err != nil {
		e.T.Fatal(err)
	}
}

func isFree(r *Registry) bool {
	held, probe := r.Held(model, batch.ID{}, false, "")
	return !held && probe == ""
}
