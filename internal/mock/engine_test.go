package mock

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Throughput saturates at the knee, and latency grows beyond it, in the order of
// arrival.
func TestKnee(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e engine
		began := time.Now()
		var mu sync.Mutex
		var ended []string
		var calls sync.WaitGroup
		for i := range 6 {
			calls.Go(func() {
				if !e.enter(t.Context(), 2) {
					t.Error("did not enter")
				}
				time.Sleep(time.Second) //nolint:forbidigo // in synctest's time: the work of the engine
				e.leave()
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, fmt.Sprintf("%d after %v", i/2, time.Since(began)))
			})
			synctest.Wait() // they arrive one after another
		}
		calls.Wait()
		if got, want := strings.Join(ended, ", "), "0 after 1s, 0 after 1s, 1 after 2s, 1 after 2s, 2 after 3s, 2 after 3s"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// A knee that is moved is in force for calls that wait, and a client that goes away
// leaves no hole.
func TestKneeIsMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e engine
		enter := func(ctx context.Context) <-chan bool {
			entered := make(chan bool, 1)
			go func() { entered <- e.enter(ctx, 1) }()
			synctest.Wait()
			return entered
		}
		first := enter(t.Context())
		gone, leave := context.WithCancel(t.Context())
		second, third, fourth := enter(gone), enter(t.Context()), enter(t.Context())
		if !<-first || len(second)+len(third)+len(fourth) > 0 {
			t.Fatal("more than one is worked on")
		}
		leave()
		if <-second {
			t.Error("entered after its client went away")
		}
		e.resize(2)
		synctest.Wait()
		if !<-third || len(fourth) > 0 {
			t.Error("a higher knee lets in just one more")
		}
		e.resize(1)
		e.leave()
		synctest.Wait()
		if len(fourth) > 0 {
			t.Error("a lower knee is not in force")
		}
		e.leave()
		if !<-fourth {
			t.Error("the last one did not enter")
		}
	})
}

// An engine with a knee refuses what is beyond its ceiling, those that wait
// included.
func TestKneeAndCeiling(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Settings: Settings{Latency: "hang", Knee: "1", Ceilings: "2"}})
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if status := f.chat(t, "m", "held"); status != 200 {
				t.Errorf("held call: status %d", status)
			}
		})
	}
	waitFor(t, func() bool { return f.Stats().InFlight == 2 })
	if status := f.chat(t, "m", "beyond"); status != http.StatusTooManyRequests {
		t.Errorf("status %d", status)
	}
	if err := f.Configure(Settings{}); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
}

func TestChanges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"60s":                "want a time",
		`x={}`:               "want a time",
		`1s={"knee":"0"}`:    "knee",
		`1s={"nothing":"0"}`: "nothing",
	} {
		if _, err := Listen(t.Context(), "127.0.0.1:0", Config{Changes: []string{text}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not name %s", text, err, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		changes, err := s.parseChanges([]string{`1s={"knee":"32"}`, `3s={"latency":"1s"}`})
		if err != nil {
			t.Fatal(err)
		}
		go s.make(t.Context(), changes)
		for _, want := range []Settings{{}, {Knee: "32"}, {Knee: "32"}, {Knee: "32", Latency: "1s"}} {
			synctest.Wait()
			if got := s.Settings(); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			time.Sleep(time.Second) //nolint:forbidigo // in synctest's time
		}
	})
}
