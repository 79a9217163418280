package consume

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

// logLines keeps what is logged.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines returns what was logged, a line each.
func (l *logLines) lines() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Split(bytes.TrimSpace(l.text.Bytes()), []byte("\n"))
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// statusLine is a line of the status log.
type statusLine struct {
	Msg             string
	InFlight        int            `json:"in_flight"`
	InFlightByModel map[string]int `json:"in_flight_by_model"`
	Completed       int
	Failed          int
	Retried         int
	EndedPerSecond  float64 `json:"ended_per_second"`
}

// take returns the status lines since it was last called.
func (l *logLines) take(t *testing.T) (lines []statusLine) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for raw := range bytes.Lines(l.text.Bytes()) {
		var line statusLine
		if err := json.Unmarshal(raw, &line); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if line.Msg == "status" {
			lines = append(lines, line)
		}
	}
	l.text.Reset()
	return lines
}

func TestStatusLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		c := &Consumer{cfg: Config{StatusInterval: 2 * time.Second, Log: log.logger()}}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- c.logStatus(ctx) }()
		for _, step := range []struct {
			what                                 string
			inFlight, completed, failed, retried int64
			intervals                            int
			want                                 []statusLine
		}{
			{what: "idle from the start", intervals: 3},
			{what: "calls begin", inFlight: 4, intervals: 1, want: []statusLine{{InFlight: 4}}},
			{what: "calls go on", inFlight: 4, intervals: 2, want: []statusLine{{InFlight: 4}, {InFlight: 4}}},
			{what: "some end", inFlight: 2, completed: 7, failed: 2, retried: 1, intervals: 1,
				want: []statusLine{{InFlight: 2, Completed: 7, Failed: 2, Retried: 1, EndedPerSecond: 4.5}}},
			{what: "all end, and it is idle", completed: 9, failed: 2, retried: 1, intervals: 3,
				want: []statusLine{{Completed: 9, Failed: 2, Retried: 1, EndedPerSecond: 1}}},
			{what: "one between two looks", completed: 10, failed: 2, retried: 1, intervals: 2,
				want: []statusLine{{Completed: 10, Failed: 2, Retried: 1, EndedPerSecond: .5}}},
		} {
			c.capacity.used.Store(step.inFlight)
			c.completed.Store(step.completed)
			c.failed.Store(step.failed)
			c.retried.Store(step.retried)
			time.Sleep(time.Duration(step.intervals) * 2 * time.Second) //nolint:forbidigo // the bubble's time, which passes at once
			synctest.Wait()
			for i := range step.want {
				step.want[i].Msg, step.want[i].InFlightByModel = "status", map[string]int{}
			}
			if diff := cmp.Diff(step.want, log.take(t)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.what, diff)
			}
		}
		time.Sleep(time.Second) //nolint:forbidigo // as above
		c.completed.Store(13)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []statusLine{{Msg: "status", InFlightByModel: map[string]int{}, Completed: 13, Failed: 2, Retried: 1, EndedPerSecond: 3}}
		if diff := cmp.Diff(want, log.take(t)); diff != "" {
			t.Errorf("at the end (-want +got):\n%s", diff)
		}
	})
}

func TestStatusLogOff(t *testing.T) {
	t.Parallel()
	var log logLines
	c := &Consumer{cfg: Config{Log: log.logger()}}
	if err := c.logStatus(t.Context()); err != nil || log.text.Len() > 0 {
		t.Errorf("%v, logged %q", err, log.text.String())
	}
}

func TestStatusLogByModel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: 3, otherModel: 2}))
	held := make(gate)
	c.endpoint.set(held.answer)
	var log logLines
	c.start(func(cfg *Config) { cfg.StatusInterval, cfg.Log = 10*time.Millisecond, log.logger() })
	id := c.Begin(lines(12, testModel, otherModel))
	want := statusLine{Msg: "status", InFlight: 5, InFlightByModel: map[string]int{string(testModel): 3, string(otherModel): 2}}
	until(t, "the calls are reported", func() bool {
		lines := log.take(t)
		return len(lines) > 0 && cmp.Equal(lines[len(lines)-1], want)
	})
	close(held)
	c.AwaitEnd(id)
	until(t, "the end is reported", func() bool {
		lines := log.take(t)
		return len(lines) > 0 && lines[len(lines)-1].Completed == 12 && lines[len(lines)-1].InFlight == 0
	})
}
