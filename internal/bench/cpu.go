package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// cpuClock adds up the CPU time of this process and, on Linux, of the
// Postgres that it started.
type cpuClock struct{ postmaster int }

// newCPUClock finds the postmaster by the file that it keeps below dir.
func newCPUClock(dir string) *cpuClock {
	c := &cpuClock{}
	found, _ := filepath.Glob(filepath.Join(dir, "*", "postmaster.pid"))
	for _, path := range append(found, filepath.Join(dir, "postmaster.pid")) {
		if raw, err := os.ReadFile(path); err == nil {
			line, _, _ := bytes.Cut(raw, []byte("\n"))
			c.postmaster, _ = strconv.Atoi(string(line))
		}
	}
	return c
}

// used returns the CPU time used so far by this process, and by Postgres.
func (c *cpuClock) used() (self, database time.Duration) {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	self = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if c.postmaster == 0 {
		return self, 0
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		database += c.ofPostgres(path)
	}
	return self, database
}

// ofPostgres reads a process's CPU time if it is the postmaster, with what
// its ended children used, or one of its children.
// Format: proc(5), fields after the command's name; ticks of 1/100 s.
func (c *cpuClock) ofPostgres(path string) time.Duration {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) < 15 {
		return 0
	}
	number := func(i int) int { n, _ := strconv.Atoi(string(fields[i])); return n }
	ticks := 0
	switch c.postmaster {
	case pidOf(path):
		ticks = number(11) + number(12) + number(13) + number(14)
	case number(1):
		ticks = number(11) + number(12)
	}
	return time.Duration(ticks) * (time.Second / 100)
}

func pidOf(statPath string) int {
	pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(statPath)))
	return pid
}
