package hold

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const model batch.Model = "org/model-1:free"

type env struct {
	*testcluster.NATS
	kv jetstream.KeyValue
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{NATS: testcluster.NewNATS(t)}
	e.ensure()
	return e
}

func (e *env) ensure() {
	e.T.Helper()
	e.EnsureStreams(streams.Config{InMemory: true, StaleDaemonThreshold: time.Minute})
	e.kv = e.Bucket(streams.HoldsBucket)
}

// registry runs one until the end of the test.
func (e *env) registry(settings ...func(*Config)) *Registry {
	e.T.Helper()
	r := e.bind(settings...)
	e.run(r)
	return r
}

// bind returns one that does not run.
func (e *env) bind(settings ...func(*Config)) *Registry {
	e.T.Helper()
	cfg := Config{Conn: testenv.Connect(e.T, e.Broker), Ramp: true, Log: testenv.Logger(e.T)}
	for _, set := range settings {
		set(&cfg)
	}
	r, err := New(e.T.Context(), cfg)
	if err != nil {
		e.T.Fatal(err)
	}
	return r
}

func (e *env) run(r *Registry) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(e.T.Context())
	}()
	e.T.Cleanup(func() { <-done })
}

func (e *env) list() map[Key]Hold {
	e.T.Helper()
	all, err := List(e.T.Context(), e.kv)
	if err != nil {
		e.T.Fatal(err)
	}
	return all
}

func TestKeysDiffer(t *testing.T) {
	t.Parallel()
	a, b := batch.ID{1}, batch.ID{2}
	keys := map[Key]string{}
	for what, k := range map[string]Key{
		"endpoint":       EndpointKey("http://a", "sk-1", ""),
		"another header": EndpointKey("http://a", "sk-1", "X-Team: b"),
		"batch, header":  BatchKey(a, "http://a", "X-Team: b"),
		"another key":    EndpointKey("http://a", "sk-2", ""),
		"another place":  EndpointKey("http://b", "sk-1", ""),
		"shifted":        EndpointKey("http://asex", "k-1", ""),
		"no key":         EndpointKey("http://a", "", ""),
		"batch":          BatchKey(a, "http://a", ""),
		"another batch":  BatchKey(b, "http://a", ""),
		"batch, another": BatchKey(a, "http://b", ""),
	} {
		if other, ok := keys[k]; ok {
			t.Errorf("%s and %s have one key", what, other)
		}
		keys[k] = what
	}
	if _, again := keys[EndpointKey("http://a", "sk-1", "")]; !again {
		t.Error("one credential has two keys")
	}
}

// Every process sees a hold, and only that of the credential; it is lifted for
// all; and what is lifted does not come back.
func TestHoldIsSeenAndLifted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	placing, other := e.registry(), e.registry()
	watching := e.registry(func(cfg *Config) { cfg.Ramp = false })
	own, id := BatchKey(batch.ID{7}, "http://a", ""), batch.ID{7}
	shared := EndpointKey("http://a", "sk", "")
	placing.Place(own, Hold{Models: []batch.Model{model}, Batch: id, Status: 429}, time.Minute)
	if a := placing.Admit(Call{Credential: own, Model: model}); a.Admitted || a.Wait <= 0 {
		t.Errorf("a call is admitted where the hold was placed: %+v", a)
	}
	testenv.Eventually(t, "another consumer sees the hold", func() bool { return !other.Admit(Call{Credential: own, Model: model}).Admitted })
	testenv.Eventually(t, "a dispatcher sees the hold", func() bool { return isHeld(watching, model, id, true) })
	for _, r := range []*Registry{placing, other, watching} {
		if !r.Admit(Call{Credential: shared, Model: model}).Admitted || isHeld(r, model, id, false) || isHeld(r, model, batch.ID{8}, true) || isHeld(r, "another", id, true) {
			t.Error("another credential is held")
		}
	}
	// A model more that is called with the credential is told to all.
	other.Admit(Call{Credential: own, Model: "another"})
	testenv.Eventually(t, "the other model is known", func() bool { return isHeld(watching, "another", id, true) })
	all := e.list()
	if h := all[own]; len(all) != 1 || h.Status != 429 || h.Batch != id || h.Since.IsZero() || time.Until(h.Until) > time.Minute {
		t.Errorf("the bucket has %+v", all)
	}
	if n, err := Lift(t.Context(), e.kv, "unknown", batch.ID{}); n != 0 || err != nil {
		t.Errorf("%d holds of another model are lifted, %v", n, err)
	}
	if n, err := Lift(t.Context(), e.kv, model, batch.ID{8}); n != 0 || err != nil {
		t.Errorf("%d holds of another batch are lifted, %v", n, err)
	}
	if n, err := Lift(t.Context(), e.kv, model, id); n != 1 || err != nil {
		t.Fatalf("%d holds are lifted, %v", n, err)
	}
	for _, r := range []*Registry{placing, other} {
		testenv.Eventually(t, "a call is admitted", func() bool { return r.Admit(Call{Credential: own, Model: model}).Admitted })
	}
	testenv.Eventually(t, "the dispatcher sees that it is lifted", func() bool { return !isHeld(watching, model, id, true) })
	if n := len(e.list()); n != 0 {
		t.Errorf("%d holds are left", n)
	}
}

func TestHoldIsCapped(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	r := e.registry(func(cfg *Config) { cfg.Max = time.Minute })
	k := EndpointKey("http://a", "", "")
	r.Place(k, Hold{Models: []batch.Model{model}, Status: 503}, 24*time.Hour)
	if a := r.Admit(Call{Credential: k, Model: model}); a.Admitted || a.Wait > time.Minute {
		t.Errorf("the hold is %+v, want at most a minute", a)
	}
	// An entry that was written with a longer cap, or by a clock that is ahead.
	far := Hold{Models: []batch.Model{model}, Status: 429, Since: time.Now(), Until: time.Now().Add(12 * time.Hour)}
	other := EndpointKey("http://b", "", "")
	if _, err := e.kv.Put(t.Context(), string(other), far.encode(time.Now())); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the entry is seen", func() bool { return !r.Admit(Call{Credential: other, Model: model}).Admitted })
	if a := r.Admit(Call{Credential: other, Model: model}); a.Wait > time.Minute {
		t.Errorf("the hold is %+v, want at most a minute", a)
	}
}

// A hold that ends wakes who waits, in every process, and calls begin gently.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	var woken atomic.Int64
	placing := e.registry()
	other := e.registry(func(cfg *Config) { cfg.Changed = func() { woken.Add(1) } })
	k := EndpointKey("http://a", "sk", "")
	placing.Place(k, Hold{Models: []batch.Model{model}, Status: 429}, time.Minute)
	testenv.Eventually(t, "the hold is seen", func() bool { return !other.Admit(Call{Credential: k, Model: model}).Admitted })
	woken.Store(0)
	passTime(other)
	testenv.Eventually(t, "somebody is woken", func() bool { return woken.Load() > 0 })
	if !other.Admit(Call{Credential: k, Model: model}).Admitted || other.Admit(Call{Credential: k, Model: model}).Admitted {
		t.Error("want one call to be admitted, and no second one beside it")
	}
	if isHeld(other, model, batch.ID{}, false) {
		t.Error("what is over is held")
	}
}

// What the watch missed, because the bucket was lost and made anew, is found.
func TestBucketIsLost(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a, b := e.registry(), e.registry()
	k := EndpointKey("http://a", "sk", "")
	if err := e.JS.DeleteKeyValue(t.Context(), streams.HoldsBucket); err != nil {
		t.Fatal(err)
	}
	a.Place(k, Hold{Models: []batch.Model{model}, Status: 429}, time.Hour)
	e.ensure()
	testenv.Eventually(t, "the other sees what could not be written at first", func() bool { return !b.Admit(Call{Credential: k, Model: model}).Admitted })
}

// Calls begin one at a time after a hold, and double with what succeeds.
func TestRamp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(Config{Ramp: true, Max: time.Hour, Changed: func() {}, Log: testenv.Logger(t)})
		k := EndpointKey("http://a", "sk", "")
		r.Place(k, Hold{Models: []batch.Model{model}, Status: 429}, time.Second)
		advance(time.Second)
		round := func(healthy bool) (n int) {
			for r.Admit(Call{Credential: k, Model: model}).Admitted {
				if n++; n > 1000 {
					t.Fatal("the ramp has ended")
				}
			}
			for range n {
				r.Done(Call{Credential: k}, healthy)
			}
			return n
		}
		for i, want := range []int{1, 2, 4, 8} {
			if got := round(true); got != want {
				t.Errorf("round %d: %d calls at once, want %d", i, got, want)
			}
		}
		if got := round(false); got != 16 {
			t.Errorf("%d calls at once, want 16", got)
		}
		if got := round(false); got != 16 {
			t.Errorf("%d calls at once after failures, want as many as before", got)
		}
		// A canceled admission takes no place.
		r.Admit(Call{Credential: k, Model: model})
		r.Cancel(Call{Credential: k}, Admission{})
		if got := round(true); got != 16 {
			t.Errorf("%d calls at once after a canceled one, want 16", got)
		}
		for range 2 {
			n := 0
			for ; n < 100 && r.Admit(Call{Credential: k, Model: model}).Admitted; n++ {
			}
			for range n {
				r.Done(Call{Credential: k}, true)
			}
		}
		if r.active.Load() != 0 {
			t.Error("the ramp does not end")
		}
		// Another hold during a ramp holds again.
		r.Place(k, Hold{Models: []batch.Model{model}, Status: 429}, time.Second)
		advance(time.Second)
		if got := round(false); got != 1 {
			t.Errorf("%d calls at once after another hold, want 1", got)
		}
		r.Place(k, Hold{Models: []batch.Model{model}, Status: 529}, time.Second)
		if r.Admit(Call{Credential: k, Model: model}).Admitted {
			t.Error("a call is admitted during the second hold")
		}
	})
}

// Many answers of one moment make few writes.
func TestManyAnswersAreFewWrites(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	r := e.registry()
	k := EndpointKey("http://a", "sk", "")
	for range 1000 {
		r.Place(k, Hold{Models: []batch.Model{model}, Status: 429}, time.Minute)
	}
	testenv.Eventually(t, "it is written", func() bool { return len(e.list()) == 1 })
	info, err := e.JS.Stream(t.Context(), "KV_"+streams.HoldsBucket)
	if err != nil {
		t.Fatal(err)
	}
	if seq := info.CachedInfo().State.LastSeq; seq > 3 {
		t.Errorf("%d writes for 1,000 answers", seq)
	}
}

func BenchmarkAdmit(b *testing.B) {
	for _, held := range []int{0, 1} {
		b.Run(fmt.Sprint(held, " held"), func(b *testing.B) {
			r := newRegistry(Config{Max: time.Hour, Log: testenv.Logger(b)})
			for i := range held {
				r.Place(EndpointKey("http://a", fmt.Sprint(i), ""), Hold{}, time.Hour)
			}
			k := EndpointKey("http://b", "", "")
			b.ReportAllocs()
			for b.Loop() {
				r.Admit(Call{Credential: k, Model: model})
				r.Done(Call{Credential: k}, true)
			}
		})
	}
}

func isHeld(r *Registry, model batch.Model, id batch.ID, hasOwnKey bool) bool {
	held, _ := r.Held(model, id, hasOwnKey, "")
	return held
}

// passTime lets what is held be over, or be due for a probe, as if its time had passed.
func passTime(r *Registry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		s.hold.Until = time.Now()
	}
}

// advance lets the bubble's time pass.
func advance(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's time, which passes at once
	synctest.Wait()
}

// Machines whose clocks differ from the broker's, and from one another's, hold for
// the same time: an entry says for how long from when the broker stored it.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	wrong := time.Now().Add(-time.Hour) // the clock of who writes
	h := Hold{Models: []batch.Model{model}, Status: 429, Since: wrong, Until: wrong.Add(10 * time.Minute)}
	k := EndpointKey("http://a", "", "")
	if _, err := e.kv.Put(t.Context(), string(k), h.encode(wrong)); err != nil {
		t.Fatal(err)
	}
	r := e.registry(func(cfg *Config) { cfg.Max = time.Hour })
	testenv.Eventually(t, "the entry is seen", func() bool { return !r.Admit(Call{Credential: k, Model: model}).Admitted })
	if a := r.Admit(Call{Credential: k, Model: model}); a.Wait > 11*time.Minute {
		t.Errorf("the hold is %+v, want 10 minutes", a)
	}
	all, err := List(t.Context(), e.kv)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d holds are listed, %v", len(all), err)
	}
	if left := time.Until(all[k].Until); left > 11*time.Minute || left < 0 {
		t.Errorf("the hold that is listed ends in %v", left)
	}
	stored, err := e.kv.Get(t.Context(), string(k))
	if err != nil {
		t.Fatal(err)
	}
	// A reader whose clock is an hour behind the broker's.
	read, err := decode(stored, time.Hour)
	if err != nil || time.Until(read.Until) > -49*time.Minute || time.Until(read.Until) < -time.Hour {
		t.Errorf("by a clock that is an hour behind it ends in %v, %v", time.Until(read.Until), err)
	}
}
