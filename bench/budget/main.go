// Command budget says which part of a pipeline spends how much CPU time on a request,
// from a profile of `fusillade bench`:
//
//	build/fusillade bench --requests 40000 --cpu-profile cpu.prof
//	go run ./bench/budget cpu.prof 40000
//
// What Postgres spends is not in it: the benchmark prints that.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parts are in the order in which they are looked for: a sample belongs to the first
// that one of its frames names.
var parts = []struct{ name, frame string }{
	{"collecting garbage", "runtime.gcBgMarkWorker"},
	{"collecting garbage", "runtime.gcAssistAlloc"},
	{"collecting garbage", "runtime.bgsweep"},
	{"NATS server: publish, deliver, ack", "github.com/nats-io/nats-server"},
	{"Postgres client", "github.com/jackc/pgx"},
	{"NATS client", "github.com/nats-io/nats.go"},
	{"net/http: the call itself", "net/http."},
	{"call: headers, body, classification of the answer", "fusillade/internal/upstream."},
	{"consumer: leases, slots, queues, results", "fusillade/internal/consume."},
	{"consumer: leases, slots, queues, results", "fusillade/internal/slots."},
	{"dispatcher: claims and messages", "fusillade/internal/dispatch."},
	{"the rest of Fusillade", "fusillade/"},
}

// scheduling is of goroutines that wake one another, and of timers and sockets.
const scheduling = "Go's scheduler, timers, sockets"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go run ./bench/budget PROFILE REQUESTS")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "budget:", err)
		os.Exit(1)
	}
}

func run(profile, requests string) error {
	n, err := strconv.Atoi(requests)
	if err != nil || n < 1 {
		return fmt.Errorf("a number of requests is needed, not %q", requests)
	}
	var said bytes.Buffer
	cmd := exec.Command("go", "tool", "pprof", "-traces", profile)
	cmd.Stderr = &said
	traces, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("reading the profile: %w: %s", err, said.String())
	}
	spent, err := budget(string(traces))
	if err != nil {
		return err
	}
	fmt.Print(table(spent, n))
	return nil
}

// budget adds up the samples of `go tool pprof -traces` by part.
func budget(traces string) (map[string]time.Duration, error) {
	spent := make(map[string]time.Duration)
	samples := strings.Split(traces, "-----------+-------------------------------------------------------\n")
	for _, sample := range samples[1:] { // the first is the head
		for line := range strings.Lines(sample) { // labels may come before the value
			value, _, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
			if d, err := time.ParseDuration(strings.ReplaceAll(value, "mins", "m")); err == nil {
				spent[partOf(sample)] += d
				break
			}
		}
	}
	if len(spent) == 0 {
		return nil, errors.New("the profile has no samples of CPU time")
	}
	return spent, nil
}

func partOf(frames string) string {
	for _, p := range parts {
		if strings.Contains(frames, p.frame) {
			return p.name
		}
	}
	return scheduling
}

// table is the budget as a table of Markdown, the largest part first.
func table(spent map[string]time.Duration, requests int) string {
	names := make([]string, 0, len(spent))
	var all time.Duration
	for name, d := range spent {
		names = append(names, name)
		all += d
	}
	slices.SortFunc(names, func(a, b string) int {
		if spent[a] != spent[b] {
			return int(spent[b] - spent[a])
		}
		return strings.Compare(a, b)
	})
	var w strings.Builder
	w.WriteString("| part | µs a request | |\n|---|---|---|\n")
	row := func(name string, d time.Duration) {
		fmt.Fprintf(&w, "| %s | %.1f | %.0f %% |\n", name, float64(d)/1e3/float64(requests), 100*d.Seconds()/all.Seconds())
	}
	for _, name := range names {
		row(name, spent[name])
	}
	row("all", all)
	return w.String()
}
