//go:build neighbours && linux

package neighbours

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/slots"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

const (
	// idleTime is over how long CPU time is measured, and maxIdle the most of a core.
	idleTime = time.Minute
	maxIdle  = 0.02
)

// retiredAgain is for how long after a model was retired the leader asks whether it
// has work again, and a little more.
const retiredAgain = 70 * time.Second

func pause(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// use is what processes have used of the machine.
type use struct {
	cpu      map[int]time.Duration // by process
	name     map[int]string        // of each process
	resident int                   // bytes, of the cluster's programs
}

// used reads what the cluster's programs use, the broker in this process, and what
// Postgres does for its database.
// Format: proc(5); ticks of 1/100 s, pages.
func (c *cluster) used() use {
	c.t.Helper()
	u := use{cpu: make(map[int]time.Duration), name: make(map[int]string)}
	add := func(name string, pid int) (resident int) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return 0 // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		u.name[pid] = name
		for _, ticks := range fields[11:13] {
			n, _ := strconv.Atoi(ticks)
			u.cpu[pid] += time.Duration(n) * 10 * time.Millisecond
		}
		pages, _ := strconv.Atoi(fields[21])
		return pages * os.Getpagesize()
	}
	for i, pid := range c.pids {
		u.resident += add(roles[i], pid)
	}
	add("broker, in the test's process", os.Getpid())
	name := c.database()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && bytes.HasPrefix(line, []byte("postgres:")) && bytes.Contains(line, []byte(name)) {
			add("Postgres's sessions", pid)
		}
	}
	return u
}

// since is the CPU time that was used since before, by name. Of a process that has
// ended meanwhile it is not known.
func (u use) since(before use) map[string]time.Duration {
	by := make(map[string]time.Duration)
	for pid, cpu := range u.cpu {
		by[u.name[pid]] += cpu - before.cpu[pid]
	}
	return by
}

// database is the name of the cluster's database.
func (c *cluster) database() string {
	for _, v := range c.env {
		if url, ok := strings.CutPrefix(v, "FUSILLADE_DATABASE_URL="); ok {
			path, _, _ := strings.Cut(url[strings.LastIndexByte(url, '/')+1:], "?")
			return path
		}
	}
	c.t.Fatal("the cluster has no database")
	return ""
}

// Models that had work, and have none, cost next to nothing once they are retired.
// Memory is told, not judged: Go returns it when it sees fit.
func TestIdleModels(t *testing.T) {
	c := newCluster(t, "FUSILLADE_MODEL_IDLE_MS=20000", "FUSILLADE_MAX_MODELS_PER_OWNER=5000")
	o := c.owner("owner")
	o.once() // the buckets are there afterwards
	js, err := jetstream.New(testenv.Connect(t, c.broker))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	retired := func() bool {
		entries, err := slots.List(t.Context(), kv)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) == 0
	}
	testenv.Until(t, 2*time.Minute, "the first model is retired", retired)
	before := c.used()
	var batches []object
	for file := range 4 {
		models := make([]string, 500)
		for i := range models {
			models[i] = fmt.Sprintf("model-%d-%d", file, i)
		}
		batches = append(batches, o.must(2*len(models), models...))
	}
	for _, b := range batches {
		o.finish(10*time.Minute, b)
	}
	testenv.Until(t, 10*time.Minute, "all models are retired", retired)
	pause(t, retiredAgain)
	began := c.used()
	pause(t, idleTime)
	after := c.used()
	part := 0.0
	by := after.since(began)
	for _, name := range slices.Sorted(maps.Keys(by)) {
		share := by[name].Seconds() / idleTime.Seconds()
		part += share
		t.Logf("%.2f %% of a core: %s", 100*share, name)
	}
	t.Logf("CPU: %.2f %% of a core; resident memory of the programs: %d MB before, %d MB a minute after the models were retired, %d MB after another",
		100*part, before.resident>>20, began.resident>>20, after.resident>>20)
	if part > maxIdle {
		t.Errorf("idle, the cluster uses %.2f %% of a core: want at most %.0f %%", 100*part, 100*maxIdle)
	}
}
