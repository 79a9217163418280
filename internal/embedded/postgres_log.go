package embedded

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// tailLines are kept to explain why a server did not start.
	tailLines = 8
	// maxLogLine bounds a line, in bytes; the rest of it is dropped.
	maxLogLine = 4 << 10
)

// serverLog passes what a server writes on to a logger, line by line, and keeps
// the end of it. It is safe for concurrent use.
type serverLog struct {
	log *slog.Logger // nil: lines are only kept
	// quiet is set while FATAL lines are expected: clients are refused while
	// the server starts, and cut off when it stops.
	quiet atomic.Bool

	mu   sync.Mutex
	line []byte
	tail []string
}

func newServerLog(log *slog.Logger) *serverLog { return &serverLog{log: log} }

// Write implements io.Writer. It never fails, since that would kill the server.
func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		if room := maxLogLine - len(l.line); room > 0 {
			l.line = append(l.line, line[:min(room, len(line))]...)
		}
		if !ended {
			return n, nil
		}
		l.emit(strings.TrimSpace(string(l.line)))
		l.line = l.line[:0]
		p = rest
	}
}

func (l *serverLog) emit(line string) {
	if line == "" {
		return
	}
	if len(l.tail) == tailLines {
		l.tail = slices.Delete(l.tail, 0, 1)
	}
	l.tail = append(l.tail, line)
	if l.log == nil {
		return
	}
	severity, message, ok := strings.Cut(line, ":  ")
	if !ok {
		severity, message = "LOG", line
	}
	level := slog.LevelDebug
	switch severity {
	case "WARNING":
		level = slog.LevelWarn
	case "FATAL":
		if !l.quiet.Load() {
			level = slog.LevelWarn
		}
	case "PANIC":
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, message, slog.String("severity", severity))
}
