//go:build chaos && unix

package chaos

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// patience is how long a test waits for what must happen at some time.
const patience = 90 * time.Second

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	testenv.Until(t, patience, what, done)
}

func wait(d time.Duration) { <-time.After(d) }

// struck reports whether a failpoint has acted.
func struck(p *programs.Process) bool { return strings.Contains(p.Log(), "failpoint ") }

// pod is a process that is started again whenever it ends, as a supervisor does.
type pod struct {
	c    *cluster
	role string
	// first is the process that has the failpoint, if there is one.
	first *programs.Process
	over  chan struct{}

	mu      sync.Mutex
	current *programs.Process
	stopped bool
}

const restartPause = 200 * time.Millisecond

// keep starts a pod. The extra environment is that of its first process alone.
func (c *cluster) keep(role string, extra ...string) *pod {
	c.t.Helper()
	p, err := built.Launch(append(c.env[:len(c.env):len(c.env)], extra...), role)
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
		<-p.Done()
		p.Sound(d.c.t)
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

func (d *pod) again() (*programs.Process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, nil
	}
	p, err := built.Launch(d.c.env, d.role)
	if err == nil {
		d.current = p
	}
	return p, err
}

func (d *pod) now() *programs.Process {
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
	p.Signal(syscall.SIGCONT)
	p.Kill()
	<-d.over
}

// replace stops the pod's process gracefully; the next one follows.
func (d *pod) replace() {
	d.c.t.Helper()
	p := d.now()
	if d.role == "consumer" {
		d.c.graceful++
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(d.c.t); code != 0 {
		d.c.t.Errorf("exit code %d of a %s that was told to stop: %s", code, d.role, p.Tail())
	}
}
