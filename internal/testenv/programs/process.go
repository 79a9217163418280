package programs

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/testenv"
)

// tailBytes is how much a failed test shows of what a process printed.
const tailBytes = 8000

// Process is a running program.
type Process struct {
	Name string

	cmd  *exec.Cmd
	log  Output
	done chan struct{} // closed when the process has ended
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal does nothing to a process that has ended.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the process with no chance to clean up, and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(os.Kill)
	<-p.done
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns the exit code of a process that ends by itself, and fails the
// test at once if it does not end.
func (p *Process) Exit(t testing.TB) int {
	t.Helper()
	testenv.Receive(t, p.Name+" ends", p.done)
	return p.cmd.ProcessState.ExitCode()
}

// WantExit fails the test unless the process ends by itself with the code and has
// printed all of the texts.
func (p *Process) WantExit(t testing.TB, code int, texts ...string) {
	t.Helper()
	if got := p.Exit(t); got != code {
		t.Errorf("exit code %d of %s, want %d; it printed:\n%s", got, p.Name, code, p.Tail())
	}
	for _, text := range texts {
		if !strings.Contains(p.Log(), text) {
			t.Errorf("%q is not among what %s printed:\n%s", text, p.Name, p.Tail())
		}
	}
}

// Log is all that the process has printed.
func (p *Process) Log() string { return p.log.String() }

// Tail is the end of Log.
func (p *Process) Tail() string { return p.log.Tail() }

// Sound fails the test if the process printed that it is broken: a data race, a
// panic, or a fatal error of Go's runtime.
func (p *Process) Sound(t testing.TB) {
	t.Helper()
	text := p.Log()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if at := strings.Index(text, bad); at >= 0 {
			t.Errorf("%s printed: %s", p.Name, text[at:min(at+tailBytes, len(text))])
		}
	}
}

// listening is how the daemons' logs say it, and fusillade to people.
var listening = regexp.MustCompile(`"msg":"listening","addr":"([^"]+)"|listening on http://(\S+)`)

// URL waits until the process listens, and returns where.
func (p *Process) URL(t testing.TB) string {
	t.Helper()
	var found []string
	testenv.Eventually(t, p.Name+" listens", func() bool {
		ended := false
		select {
		case <-p.done:
			ended = true
		default:
		}
		if found = listening.FindStringSubmatch(p.Log()); found == nil && ended {
			t.Fatalf("%s ended before it listened; it printed:\n%s", p.Name, p.Tail())
		}
		return found != nil
	})
	return "http://" + found[1] + found[2]
}

// Output is what a process has printed, written by it and read by its test. Its zero
// value is ready, and it is safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Tail is the end of it, to be shown where a test failed.
func (o *Output) Tail() string {
	text := o.String()
	return text[max(len(text)-tailBytes, 0):]
}
