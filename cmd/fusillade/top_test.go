package main

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"fusillade/client"
	"fusillade/internal/cli"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/top"
)

func TestTopOnce(t *testing.T) {
	newServer(t, &mock.Settings{Latency: "hang"})
	id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(7)))
	must(t, "models", "pause", "gpt-4")
	out := must(t, "top", "--once", "--refresh", "100ms")
	for _, want := range []string{"in flight of", "Models", "gpt-4", "paused", "! gpt-4 is paused", "Batches", id, "in_progress", "Daemons", "standalone"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	refuses(t, cli.ExitUsage, []string{"--once"}, "top")
	refuses(t, cli.ExitUsage, []string{"--refresh"}, "top", "--once", "--refresh", "1ms")
}

// terminal is a real one, whose screen can be read.
type terminal struct {
	tty  *os.File // the program's side
	keys *os.File // the user's side

	mu       sync.Mutex
	emulator *vt.Emulator
}

func newTerminal(t *testing.T, width, height int) *terminal {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(tty, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{tty: tty, keys: keys, emulator: vt.NewEmulator(width, height)}
	var drawn, answers sync.WaitGroup
	drawn.Go(func() { _, _ = io.Copy(term, keys) })
	answers.Go(func() { _, _ = io.Copy(keys, term.emulator) }) // to questions about the terminal
	t.Cleanup(func() {
		_ = tty.Close()
		_ = keys.Close()
		drawn.Wait()
		_ = term.emulator.Close()
		answers.Wait()
	})
	return term
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.emulator.Write(p)
}

func (t *terminal) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.emulator.String()
}

// Keys pause, resume and cancel, and only after a question.
func TestTopSteers(t *testing.T) {
	newServer(t, nil)
	id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(7)))
	err := new(remote).with(func(api *client.Client) error {
		drawn := newTerminal(t, 80, 24)
		done := make(chan error, 1)
		go func() {
			done <- top.Run(t.Context(), top.Config{API: api, Server: "here", Refresh: 20 * time.Millisecond},
				tea.WithInput(drawn.tty), tea.WithOutput(drawn.tty), tea.WithoutSignals())
		}()
		press := func(text, shown string) {
			t.Helper()
			if _, err := io.WriteString(drawn.keys, text); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "it shows "+shown, func() bool { return strings.Contains(drawn.String(), shown) })
		}
		paused := func() bool {
			for m, err := range api.ModelStatuses(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if m.ID == "gpt-4" {
					return m.Paused
				}
			}
			return false
		}
		press("p", "Pause gpt-4 in the whole cluster? y/n")
		press("n", "left as it is")
		if paused() {
			t.Error("paused without a yes")
		}
		press("py", "gpt-4 is paused")
		testenv.Eventually(t, "the model is paused", paused)
		press("", "! gpt-4 is paused")
		press("ry", "gpt-4 goes on")
		testenv.Eventually(t, "the model goes on", func() bool { return !paused() && !strings.Contains(drawn.String(), "! gpt-4") })
		press("l", "gpt-4 is not held")
		press("\t", "BATCH")
		press("cy", id+" is cancelled")
		t.Logf("at 80×24:\n%s", drawn)
		if b, err := api.Batch(t.Context(), id); err != nil || b.Status != "cancelled" {
			t.Errorf("the batch is %s, %v", b.Status, err)
		}
		if _, err := io.WriteString(drawn.keys, "q"); err != nil {
			t.Fatal(err)
		}
		return <-done
	})
	if err != nil {
		t.Error(err)
	}
}
