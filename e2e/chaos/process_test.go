//go:build chaos && unix

package chaos

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// patience is how long a test waits for what must happen at some time.
const patience = 90 * time.Second

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	testenv.Until(t, patience, what, done)
}

func wait(d time.Duration) { <-time.After(d) }

// process is a running program.
type process struct {
	name string
	cmd  *exec.Cmd
	logs logs
	done chan struct{}
}

func startProcess(env []string, name string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(filepath.Join(programs, name), args...), done: make(chan struct{})}
	// A program that looks for races would linger for a second as it ends.
	p.cmd.Env = append(env[:len(env):len(env)], "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = &p.logs, &p.logs
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// struck reports whether a failpoint has acted.
func (p *process) struck() bool { return strings.Contains(p.logs.String(), "failpoint ") }

// sound fails the test if the process said that it is broken.
func (p *process) sound(t *testing.T) {
	text := p.logs.String()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if at := strings.Index(text, bad); at >= 0 {
			t.Errorf("%s said: %s", p.name, text[at:min(at+4000, len(text))])
		}
	}
}

type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logs) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logs) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// pod is a process that is started again whenever it ends, as a supervisor does.
type pod struct {
	c    *cluster
	role string
	// first is the process that has the failpoint, if there is one.
	first *process
	over  chan struct{}

	mu      sync.Mutex
	current *process
	stopped bool
}

const restartPause = 200 * time.Millisecond

// keep starts a pod. The extra environment is that of its first process alone.
func (c *cluster) keep(role string, extra ...string) *pod {
	c.t.Helper()
	p, err := startProcess(append(c.env[:len(c.env):len(c.env)], extra...), role)
	if err != nil {
		c.t.Fatal(err)
	}
	d := &pod{c: c, role: role, first: p, current: p, over: make(chan struct{})}
	go d.supervise()
	c.pods = append(c.pods, d)
	c.t.Cleanup(d.end)
	return d
}

func (d *pod) supervise() {
	defer close(d.over)
	for p := d.first; ; {
		<-p.done
		p.sound(d.c.t)
		d.c.ran(p)
		wait(restartPause)
		next, err := d.again()
		if err != nil {
			d.c.t.Error(err)
		}
		if next == nil {
			return
		}
		p = next
	}
}

func (d *pod) again() (*process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, nil
	}
	p, err := startProcess(d.c.env, d.role)
	if err == nil {
		d.current = p
	}
	return p, err
}

func (d *pod) now() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// end kills the pod for good.
func (d *pod) end() {
	d.mu.Lock()
	d.stopped = true
	p := d.current
	d.mu.Unlock()
	p.signal(syscall.SIGCONT)
	p.kill()
	<-d.over
}

// replace stops the pod's process gracefully; the next one follows.
func (d *pod) replace() {
	d.c.t.Helper()
	p := d.now()
	if d.role == "consumer" {
		d.c.graceful++
	}
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		d.c.t.Fatalf("%s does not end", d.role)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		d.c.t.Errorf("exit code %d of a %s that was told to stop: %s", code, d.role, tail(p.logs.String(), 1000))
	}
}

func tail(s string, n int) string { return s[max(len(s)-n, 0):] }
