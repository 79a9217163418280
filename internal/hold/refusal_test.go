package hold

import (
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

func after(n int) func(*Config) {
	return func(cfg *Config) { cfg.After, cfg.Probe, cfg.MaxProbe = n, 300*time.Millisecond, time.Second }
}

// still lets no probe become due while a test runs.
func still(cfg *Config) { cfg.Probe, cfg.MaxProbe = time.Hour, time.Hour }

func refused(cause batch.RefusalCause) Refusal { return Refusal{Cause: cause, Status: 401} }

// So many refusals in a row place a hold that every process sees; one call in
// the whole cluster probes it in each interval, and an answer lifts it for all.
func TestRefusalsHold(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	all := []*Registry{e.registry(after(3)), e.registry(after(3)), e.registry(after(3))}
	dispatcher := e.registry(func(cfg *Config) { cfg.Ramp = false })
	c := Call{Credential: EndpointKey("http://a", "sk", ""), Model: model, Owner: "alice"}
	for i := range 2 {
		if held, n := all[0].Refused(c, refused(batch.CauseUnauthorized)); held || n != i+1 {
			t.Fatalf("held %t after %d refusals", held, n)
		}
	}
	all[0].Answered(c, time.Now(), false)
	for range 2 {
		all[0].Refused(c, refused(batch.CauseUnauthorized))
	}
	if !all[0].Admit(c).Admitted {
		t.Fatal("refusals that are not in a row hold")
	}
	if held, _ := all[0].Refused(c, refused(batch.CauseUnauthorized)); !held {
		t.Fatal("three in a row do not hold")
	}
	other := Call{Credential: EndpointKey("http://a", "sk-2", ""), Model: model, Owner: "alice"}
	sameKey := Call{Credential: c.Credential, Model: "another", Owner: "bob"}
	for _, r := range append(all, dispatcher) {
		testenv.Eventually(t, "every process sees it", func() bool {
			held, probe := r.Held(model, batch.ID{}, false, "bob")
			return held || probe != ""
		})
	}
	if !all[0].Admit(other).Admitted {
		t.Error("another key is held")
	}
	if all[0].Admit(sameKey).Admitted {
		t.Error("another model with the same key is not held")
	}
	// Probes: at most one an interval, by whichever process. An interval begins as
	// the entry's Until is moved, and not before that has passed.
	moves, err := e.kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	probes := 0
	testenv.Eventually(t, "there are three probes", func() bool {
		for _, r := range all {
			if a := r.Admit(c); a.Admitted {
				if !a.Probe {
					t.Error("a call is admitted that is no probe")
				}
				probes++
				r.Refused(c, refused(batch.CauseUnauthorized))
				r.Done(c, false)
			}
		}
		return probes >= 3
	})
	list := e.list()
	for _, h := range list {
		if h.Cause != batch.CauseUnauthorized || h.Calls != 3 || h.Probes < probes || h.Owner != "" {
			t.Errorf("the bucket has %+v after %d probes", h, probes)
		}
	}
	if len(list) != 1 {
		t.Errorf("the bucket has %d holds", len(list))
	}
	var last Hold
	for last.Probes < probes {
		entry := <-moves.Updates()
		if entry == nil {
			continue // the end of what there was
		}
		h, err := decode(entry, 0)
		if err != nil {
			t.Fatal(err)
		}
		// An entry says how long it is for, in whole milliseconds, from when it was stored.
		slack := 100 * time.Millisecond
		if n := h.Probes - last.Probes; !last.Until.IsZero() && h.Until.Sub(last.Until) < time.Duration(n)*all[0].probePause(1)-slack {
			t.Errorf("the probe after %d more is at %v, and was at %v", n, h.Until, last.Until)
		}
		last = h
	}
	all[1].Answered(c, time.Now(), true)
	for _, r := range all {
		testenv.Eventually(t, "calls go on", func() bool {
			a := r.Admit(c)
			if a.Admitted {
				r.Cancel(c, a)
			}
			return a.Admitted && !a.Probe
		})
	}
	testenv.Eventually(t, "the bucket is empty", func() bool { return len(e.list()) == 0 })
}

// A canceled probe is another call's; a process that begins later knows the hold;
// an operator lifts it.
func TestRefusalOutlivesProcesses(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := Call{Credential: EndpointKey("http://a", "sk", ""), Model: model}
	first := e.registry(after(1))
	first.Refused(c, refused(batch.CauseConnectionRefused))
	testenv.Eventually(t, "it is written", func() bool { return len(e.list()) == 1 })
	later := e.registry(after(1))
	var a Admission
	testenv.Eventually(t, "it gets the probe", func() bool {
		a = later.Admit(c)
		return a.Probe || a.Admitted && len(e.list()) == 0
	})
	later.Cancel(c, a)
	if a = later.Admit(c); !a.Probe {
		t.Errorf("the probe that was canceled is lost: %+v", a)
	}
	if n, err := Lift(t.Context(), e.kv, model, batch.ID{}); n != 1 || err != nil {
		t.Fatalf("%d are lifted, %v", n, err)
	}
	testenv.Eventually(t, "calls go on", func() bool { a := later.Admit(c); return a.Admitted && !a.Probe })
}

// What may be the fault of what an owner asks for holds nobody else; a model that
// is not there holds no other model.
func TestScopesOfRefusals(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	r := e.registry(after(1), still)
	k := EndpointKey("http://a", "sk", "")
	alice, bob := Call{Credential: k, Model: model, Owner: "alice"}, Call{Credential: k, Model: model, Owner: "bob"}
	r.Refused(alice, refused(batch.CauseForbidden))
	if r.Admit(alice).Admitted || !r.Admit(bob).Admitted {
		t.Error("want alice's calls to be held, and not bob's")
	}
	if held, _ := r.Held(model, batch.ID{}, false, "alice"); !held {
		t.Error("a dispatcher does not know")
	}
	if held, probe := r.Held(model, batch.ID{}, false, "bob"); held || probe != "" {
		t.Error("a dispatcher holds bob's")
	}
	r.Refused(Call{Credential: k, Model: "typo", Owner: "carol"}, refused(batch.CauseModelNotFound))
	if !r.Admit(bob).Admitted || r.Admit(Call{Credential: k, Model: "typo", Owner: "bob"}).Admitted {
		t.Error("want the model to be held, and no other one")
	}
	// A call that began before the first refusal says nothing.
	r.Answered(alice, time.Now().Add(-time.Hour), false)
	if r.Admit(alice).Admitted {
		t.Error("an old call has lifted the hold")
	}
	r.Answered(alice, time.Now().Add(time.Second), false)
	if !r.Admit(alice).Admitted {
		t.Error("an answer has not lifted the hold")
	}
}

// A hold that nobody probes is forgotten, and one whose key is not used any more
// is lifted by what the model is called with now.
func TestRefusalsAreForgotten(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	old := Hold{Models: []batch.Model{model}, Cause: batch.CauseUnauthorized, Since: time.Now().Add(-time.Hour), Until: time.Now().Add(-forgetAfter - time.Second)}
	if _, err := e.kv.Put(t.Context(), "old", old.encode(time.Now())); err != nil {
		t.Fatal(err)
	}
	var woken atomic.Int64
	r := e.registry(after(1), func(cfg *Config) { cfg.Changed = func() { woken.Add(1) } })
	before := Call{Credential: EndpointKey("http://a", "old", ""), Model: model}
	r.Refused(before, refused(batch.CauseUnauthorized))
	testenv.Eventually(t, "the hold is written", func() bool { return len(e.list()) == 1 })
	r.Answered(Call{Credential: EndpointKey("http://a", "new", ""), Model: model}, time.Now().Add(time.Second), false)
	testenv.Eventually(t, "it is lifted", func() bool { return len(e.list()) == 0 && woken.Load() > 0 })
	if held, probe := r.Held(model, batch.ID{}, false, ""); held || probe != "" {
		t.Error("what is forgotten is held")
	}
}

// A process that alone is refused holds the others once, and itself from then on.
func TestRelapse(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	sick, well := e.registry(after(2), still), e.registry(after(2), still)
	c := Call{Credential: EndpointKey("http://a", "sk", ""), Model: model}
	fail := func() {
		for range 2 {
			sick.Refused(c, refused(batch.CauseNoSuchHost))
		}
	}
	fail()
	testenv.Eventually(t, "the other is held", func() bool { return !well.Admit(c).Admitted })
	well.Answered(c, time.Now(), true)
	testenv.Eventually(t, "it is lifted", func() bool {
		a := sick.Admit(c)
		sick.Cancel(c, a)
		return a.Admitted && !a.Probe
	})
	fail()
	if sick.Admit(c).Admitted || !sick.Rests(model) {
		t.Error("it does not hold itself")
	}
	passTime(sick)
	if !sick.Admit(c).Probe || sick.Admit(c).Admitted {
		t.Error("want it to probe by itself, and once")
	}
	if n := len(e.list()); n != 0 || well.Rests(model) {
		t.Errorf("%d holds are in the bucket", n)
	}
	sick.Answered(c, time.Now(), true)
	if sick.Rests(model) {
		t.Error("an answer does not lift it")
	}
	// An operator's lift is no answer: what is refused then is held for all again.
	fail()
	testenv.Eventually(t, "it is held for all", func() bool { return len(e.list()) == 1 })
	if n, err := Lift(t.Context(), e.kv, model, batch.ID{}); n != 1 || err != nil {
		t.Fatalf("%d are lifted, %v", n, err)
	}
	testenv.Eventually(t, "it is lifted", func() bool { held, probe := sick.Held(model, batch.ID{}, false, ""); return !held && probe == "" })
	fail()
	testenv.Eventually(t, "it is held for all again", func() bool { return len(e.list()) == 1 })
}
