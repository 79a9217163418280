package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"fusillade/internal/scaling"
)

const (
	// load is the part of each resource that a cluster uses of what it has.
	load = 0.7
	// podInFlight is FUSILLADE_MAX_IN_FLIGHT of the sizes, podCores the cores of each.
	podInFlight, podCores = 1000, 1
)

// sections are the generated parts of docs/scaling.md.
func sections(costs scaling.Costs, runs []byte) (map[string]string, error) {
	var list []scaling.Run
	if err := json.Unmarshal(runs, &list); err != nil {
		return nil, fmt.Errorf("checked.json: %w", err)
	}
	pods, err := podsTable(costs)
	if err != nil {
		return nil, err
	}
	return map[string]string{"costs": costsTable(costs), "sizes": sizesTable(costs), "pods": pods, "checked": checkedTable(list)}, nil
}

func costsTable(c scaling.Costs) string {
	var w strings.Builder
	w.WriteString("| | a request | an idle consumer |\n|---|---|---|\n")
	row := func(name string, each time.Duration, idle float64) {
		fmt.Fprintf(&w, "| %s | %.0f µs | %.1f %% of a core |\n", name, float64(each)/1e3, 100*idle)
	}
	row("consumer", c.Consumer, c.PerPod.Consumer)
	fmt.Fprintf(&w, "| dispatcher | %.0f µs | |\n", float64(c.Dispatcher)/1e3)
	row("Postgres", c.Postgres, c.PerPod.Postgres)
	row("NATS, one server", c.Broker, c.PerPod.Broker)
	fmt.Fprintf(&w, "| WAL | %.0f bytes | |\n", c.WALBytes)
	fmt.Fprintf(&w, "| from the end of a call to the next one in its slot | %.1f ms | |\n", float64(c.Handover)/1e6)
	return w.String()
}

func sizesTable(c scaling.Costs) string {
	var w strings.Builder
	w.WriteString("| requests/s | seconds a call | in flight | consumers | dispatchers | Postgres | WAL | each of 3 NATS |\n|---|---|---|---|---|---|---|---|\n")
	for _, latency := range []time.Duration{2 * time.Second, 10 * time.Second, time.Minute} {
		for _, rate := range []float64{100, 1000, 5000, 20000} {
			s := scaling.SizeFor(c, rate, latency, podCores, podInFlight, true, load)
			fmt.Fprintf(&w, "| %.0f | %.0f | %.0f | %d | %s | %s | %.1f MB/s | %s |\n",
				s.PerSecond, latency.Seconds(), s.InFlight, s.Pods, cores(s.Dispatchers), cores(s.Postgres), s.WALBytes/1e6, cores(s.Broker))
		}
	}
	return w.String()
}

// cores says how many are needed.
func cores(n float64) string { return fmt.Sprintf("%.1f cores", max(n, 0.1)) }

func podsTable(c scaling.Costs) (string, error) {
	var w strings.Builder
	w.WriteString("| consumers | seconds a call | requests/s | in flight | bound by | then by | at |\n|---|---|---|---|---|---|---|\n")
	for _, latency := range []time.Duration{2 * time.Second, 10 * time.Second} {
		for _, pods := range []int{10, 100, 1000} {
			k := defaults()
			k.Pods, k.Latency = pods, latency
			p, err := scaling.Predict(c, k)
			if err != nil {
				return "", err
			}
			next := p.Next()
			fmt.Fprintf(&w, "| %d | %.0f | %.0f | %.0f | %s | %s | %.0f %% |\n", pods, latency.Seconds(), p.PerSecond, p.InFlight, p.Bound, next, 100*p.Use[next])
		}
	}
	return w.String(), nil
}

func checkedTable(list []scaling.Run) string {
	if len(list) == 0 {
		return "No run was kept yet: `make scaling UPDATE=1` fills this in.\n"
	}
	var w strings.Builder
	w.WriteString("| consumers | in flight of each | seconds a call | requests/s | predicted | bound by |\n|---|---|---|---|---|---|\n")
	for _, r := range list {
		fmt.Fprintf(&w, "| %d | %d | %.2f | %.0f | %.0f | %s |\n", r.Pods, r.InFlight, r.Latency.Seconds(), r.PerSecond, r.Predicted, r.Bound)
	}
	return w.String()
}
