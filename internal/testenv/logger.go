package testenv

import (
	"io"
	"log/slog"
	"sync"
	"testing"
)

// Logger returns a logger whose lines, of every level, are the test's output.
// What is logged after the test is done is dropped.
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	return logger(t, slog.LevelDebug)
}

func logger(t testing.TB, level slog.Level) *slog.Logger {
	t.Helper()
	w := &testWriter{out: t.Output()}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// testWriter writes to a test's output until it is closed: the testing package
// panics on later writes.
type testWriter struct {
	mu  sync.Mutex
	out io.Writer // nil once closed
}

// Write implements io.Writer.
func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return len(p), nil
	}
	return w.out.Write(p)
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = nil
}
