package tally

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is what was logged, by several goroutines.
type lines struct {
	mu  sync.Mutex
	out strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// take returns what was logged since it was called last.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.out.Reset()
	return l.out.String()
}

// The first of a kind is logged at once, the others as counts, and at the end what
// was counted since.
func TestCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		l := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})), time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		want := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			if got := strings.TrimSpace(out.take()); got != strings.Join(lines, "\n") {
				t.Errorf("logged:\n%s\nwant:\n%s", got, strings.Join(lines, "\n"))
			}
		}
		down := func(model string, n int) {
			for i := range n {
				l.Add(slog.LevelWarn, "down", []any{"model", model}, "request", i)
			}
		}
		down("a", 100)
		down("b", 1)
		want("level=WARN msg=down model=a request=0", "level=WARN msg=down model=b request=0")
		<-time.After(61 * time.Second)
		want("level=WARN msg=down model=a count=99 within_seconds=60")
		down("b", 1)
		want("level=WARN msg=down model=b request=0")
		down("a", 7)
		<-time.After(30 * time.Second)
		want()
		stop()
		<-ended
		want("level=WARN msg=down model=a count=7 within_seconds=31")
	})
}

// However many kinds there are, lines and memory are bounded.
func TestManyKinds(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	l := New(slog.New(slog.NewTextHandler(&out, nil)), time.Hour)
	for i := range 10 * maxKinds {
		l.Add(slog.LevelWarn, "down", []any{"model", fmt.Sprint("m", i)}, "request", i)
	}
	if n := strings.Count(out.String(), "\n"); n != maxKinds+1 {
		t.Errorf("%d lines were logged, want %d", n, maxKinds+1)
	}
	l.flush(0)
	if !strings.Contains(out.String(), fmt.Sprintf("msg=down count=%d", 9*maxKinds-1)) {
		t.Errorf("what is beyond the bound was not counted: %s", out.String()[out.Len()-500:])
	}
}
