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
	// quietTime is how long the cluster has been quiet before it is measured: the
	// leader asks for a minute after a model was retired whether it has work again,
	// and then each program releases its memory.
	quietTime = 2*time.Minute + 10*time.Second
	// maxGrowth is the most that the programs' memory may have grown.
	maxGrowth = 1.2
	// oneModel has as many calls in flight as many models have together.
	oneModel = "one-model"
)

func pause(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// use is what processes have used of the machine.
type use struct {
	cpu    map[int]time.Duration // by process
	name   map[int]string        // of each process
	memory map[string]int        // resident, in bytes, by name; of Postgres's sessions what they share counts each time
}

// resident is that of the cluster's programs, in bytes.
func (u use) resident() (sum int) {
	for _, name := range []string{"dispatcher", "consumer", "api"} {
		sum += u.memory[name]
	}
	return sum
}

// String tells the memory.
func (u use) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d MB", u.resident()>>20)
	for i, name := range slices.Sorted(maps.Keys(u.memory)) {
		separator := ","
		if i == 0 {
			separator = ":"
		}
		fmt.Fprintf(&b, "%s %s %d", separator, name, u.memory[name]>>20)
	}
	return b.String()
}

// used reads what the cluster's programs use, the broker in this process, and what
// Postgres does for its database.
// Format: proc(5); ticks of 1/100 s, pages.
func (c *cluster) used() use {
	c.t.Helper()
	u := use{cpu: make(map[int]time.Duration), name: make(map[int]string), memory: make(map[string]int)}
	add := func(name string, pid int) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		u.name[pid] = name
		for _, ticks := range fields[11:13] {
			n, _ := strconv.Atoi(ticks)
			u.cpu[pid] += time.Duration(n) * 10 * time.Millisecond
		}
		pages, _ := strconv.Atoi(fields[21])
		u.memory[name] += pages * os.Getpagesize()
	}
	for i, pid := range c.pids {
		add(roles[i], pid)
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

// Models that had work, and have none, cost next to nothing once they are retired:
// of 2,000 of which 1,000 had work at once the cluster uses as much as after the same
// work for one model.
func TestIdleModels(t *testing.T) {
	const models, atOnce, perFile = 2000, 1000, 500
	c := newCluster(t, "FUSILLADE_MODEL_IDLE_MS=20000", "FUSILLADE_MAX_MODELS_PER_OWNER=5000",
		fmt.Sprintf("FUSILLADE_MODEL_CONCURRENCY_LIMITS=%s=%d", oneModel, atOnce))
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
	// rest has models come, work and go, in waves, and returns what is used when the
	// cluster is quiet.
	rest := func(name func(i int) string) use {
		t.Helper()
		next := 0
		for range models / atOnce {
			var batches []object
			for range atOnce / perFile {
				some := make([]string, perFile)
				for i := range some {
					some[i] = name(next)
					next++
				}
				batches = append(batches, o.must(2*perFile, some...))
			}
			for _, b := range batches {
				o.finish(10*time.Minute, b)
			}
			testenv.Until(t, 10*time.Minute, "all models are retired", retired)
		}
		pause(t, quietTime)
		return c.used()
	}
	t.Logf("memory before any work: %v", c.used())
	before := rest(func(int) string { return oneModel })
	t.Logf("memory after the work of one model: %v", before)
	began := rest(func(i int) string { return fmt.Sprintf("model-%d", i) })
	t.Logf("memory after as much work of %d models, %d at once: %v", models, atOnce, began)
	pause(t, idleTime)
	part := 0.0
	by := c.used().since(began)
	for _, name := range slices.Sorted(maps.Keys(by)) {
		share := by[name].Seconds() / idleTime.Seconds()
		part += share
		t.Logf("%.2f %% of a core: %s", 100*share, name)
	}
	growth := float64(began.resident()) / float64(before.resident())
	t.Logf("CPU: %.2f %% of a core; memory of the programs: %.2f times that after one model", 100*part, growth)
	if part > maxIdle {
		t.Errorf("idle, the cluster uses %.2f %% of a core: want at most %.0f %%", 100*part, 100*maxIdle)
	}
	if growth > maxGrowth {
		t.Errorf("idle, the programs have %.2f times the memory that they have after one model: want at most %.1f", growth, maxGrowth)
	}
}
