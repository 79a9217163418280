package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/mock"
	"fusillade/internal/slots"
	"fusillade/internal/testenv/programs"
	"fusillade/streams"
)

var plots = flag.String("plots", "", "run the measurement of automatic limits, five minutes, and write its plots into this `directory`")

// moment is what was seen of a run at one time.
type moment struct {
	seconds          float64
	limit, inFlight  int
	answered, refuse int64 // so far
}

// TestAutomaticLimit measures an automatic limit with three consumers, of which one
// is killed, against engines whose capacity is halved and doubled again. It prints
// what it found, and draws it. It takes an idle machine and five minutes, so it runs
// only where -plots is given.
func TestAutomaticLimit(t *testing.T) {
	if *plots == "" {
		t.Skip("give -plots DIR to measure automatic limits")
	}
	t.Parallel()
	directory, err := filepath.Abs(*plots)
	if err != nil {
		t.Fatal(err)
	}
	const capacity, killed, halved, doubled, end = 64, 90, 130, 220, 310
	for name, of := range map[string]struct {
		settings func(n int) mock.Settings
		title    string
	}{
		"knee": {func(n int) mock.Settings { return mock.Settings{Latency: "normal:1s±100ms", Knee: fmt.Sprint(n)} },
			"An engine that works on 64 calls at once, then on 32, then on 64"},
		"refusals": {func(n int) mock.Settings {
			return mock.Settings{Latency: "normal:1s±100ms", Ceilings: fmt.Sprintf("*=%d", n)}
		}, "An endpoint that refuses more than 64 calls, then 32, then 64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, of.settings(capacity), "FUSILLADE_DEFAULT_MODEL_CONCURRENCY=auto:4-1000", "FUSILLADE_MAX_RETRIES=none")
			js, err := jetstream.New(c.broker)
			if err != nil {
				t.Fatal(err)
			}
			c.start("dispatcher")
			consumers := []*programs.Process{c.start("consumer"), c.start("consumer"), c.start("consumer")}
			kv, err := js.KeyValue(t.Context(), streams.SlotsBucket)
			for err != nil { // until the dispatcher has made it
				time.Sleep(100 * time.Millisecond) //nolint:forbidigo // a measurement goes by the clock
				kv, err = js.KeyValue(t.Context(), streams.SlotsBucket)
			}
			c.createBatch(requests(t, end*capacity, "m"))
			poll(t, "calls are made", func() bool { return c.mock.Stats().InFlight > 0 })
			began := time.Now()
			var seen []moment
			events := []struct {
				at   float64
				name string
				do   func()
			}{
				{killed, "a consumer is killed", func() { consumers[0].Kill() }},
				{halved, "half the capacity", func() { _ = c.mock.Configure(of.settings(capacity / 2)) }},
				{doubled, "all of it again", func() { _ = c.mock.Configure(of.settings(capacity)) }},
			}
			next := 0
			for now := 0.0; now < end; now = time.Since(began).Seconds() {
				if next < len(events) && now >= events[next].at {
					events[next].do()
					next++
				}
				limit, err := slots.Limit(t.Context(), kv, "m")
				if err != nil {
					t.Fatal(err)
				}
				s := c.mock.Stats()
				seen = append(seen, moment{now, limit, int(s.InFlight), s.ByStatus[200], s.ByStatus[429]})
				time.Sleep(100 * time.Millisecond) //nolint:forbidigo // a measurement goes by the clock
			}
			for _, part := range []struct {
				name           string
				from, to, knee float64
			}{
				{"from 4, after 60 s", 60, killed, capacity}, {"one of three consumers killed", killed + 20, halved, capacity},
				{"halved, after 60 s", halved + 60, doubled, capacity / 2}, {"doubled, after 60 s", doubled + 60, end, capacity},
			} {
				first, last, peak := moment{}, moment{}, 0
				for _, m := range seen {
					if m.seconds >= part.from && m.seconds < part.to {
						if first.seconds == 0 {
							first = m
						}
						last, peak = m, max(peak, m.inFlight)
					}
				}
				rate := float64(last.answered-first.answered) / (last.seconds - first.seconds)
				t.Logf("%-30s %5.1f %% of the best throughput, at most %.2f × the knee in flight", part.name+":", 100*rate/part.knee, float64(peak)/part.knee)
			}
			last := seen[len(seen)-1]
			t.Logf("%d calls answered, %d refused: %.2f %%", last.answered, last.refuse, 100*float64(last.refuse)/float64(last.answered+last.refuse))
			marks := make(map[float64]string)
			for _, e := range events {
				marks[e.at] = e.name
			}
			path := filepath.Join(directory, "adaptive-"+name+".svg")
			if err := os.WriteFile(path, []byte(drawAdaptive(of.title, seen, marks, end)), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s is written", path)
		})
	}
}
