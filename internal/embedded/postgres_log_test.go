package embedded

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestServerLogLevels(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newServerLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	write(t, l, "LOG:  ready\nFATAL:  refused\nPANIC:  broken\nodd line\n\n")
	l.quiet.Store(true)
	write(t, l, "FATAL:  expected\n")
	want := strings.Join([]string{
		`level=DEBUG msg=ready severity=LOG`,
		`level=WARN msg=refused severity=FATAL`,
		`level=ERROR msg=broken severity=PANIC`,
		`level=DEBUG msg="odd line" severity=LOG`,
		`level=DEBUG msg=expected severity=FATAL`,
		``,
	}, "\n")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// However the server's output is cut into writes, its last lines are kept.
func TestServerLogTail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.StringMatching(`[a-z]{1,20}`)).Draw(t, "lines")
		text := []byte(strings.Join(append(lines, ""), "\n"))
		l := newServerLog(nil)
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "n")
			if wrote, err := l.Write(text[:n]); wrote != n || err != nil {
				t.Fatalf("Write = %d, %v; want %d", wrote, err, n)
			}
			text = text[n:]
		}
		want := lines[max(0, len(lines)-tailLines):]
		if got := strings.Join(l.tail, "\n"); got != strings.Join(want, "\n") {
			t.Fatalf("tail = %q, want %q", got, want)
		}
	})
}

func TestServerLogBoundsLines(t *testing.T) {
	t.Parallel()
	l := newServerLog(nil)
	for range 10 {
		write(t, l, strings.Repeat("x", maxLogLine/3))
	}
	write(t, l, "\nnext\n")
	if len(l.tail) != 2 || len(l.tail[0]) != maxLogLine || l.tail[1] != "next" {
		t.Errorf("%d lines, the first of %d bytes", len(l.tail), len(l.tail[0]))
	}
}

func write(t *testing.T, l *serverLog, text string) {
	t.Helper()
	if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("Write = %d, %v; want %d", n, err, len(text))
	}
}
