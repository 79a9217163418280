package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// work is jobs that each call a model endpoint, and whose answers are kept.
type work struct {
	url                              string
	requests, concurrency, bodyBytes int
}

// callWorker makes the call of a job. The answer goes into the job's row, with the
// statement that completes many: River has no cheaper way to keep it.
type callWorker struct {
	river.WorkerDefaults[callArgs]

	http *http.Client
	url  string
}

// Work implements river.Worker.
func (w *callWorker) Work(ctx context.Context, job *river.Job[callArgs]) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/chat/completions", bytes.NewReader(job.Args.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return river.RecordOutput(ctx, json.RawMessage(answer))
}

// measure inserts the jobs, and then works on them: as `fusillade bench`, which stores
// its file before. It prints one JSON object.
func (w *work) measure(ctx context.Context, pool *pgxpool.Pool) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = w.concurrency
	workers := river.NewWorkers()
	river.AddWorker(workers, &callWorker{http: &http.Client{Transport: transport}, url: w.url})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: w.concurrency}}, Workers: workers, JobTimeout: -1,
		// As often as it can fetch: by default it waits 100 ms between two fetches.
		FetchCooldown: time.Millisecond, FetchPollInterval: time.Millisecond,
	})
	if err != nil {
		return err
	}
	if err := w.insert(ctx, client); err != nil {
		return err
	}
	events, unsubscribe := client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: w.requests, Kinds: []river.EventKind{river.EventKindJobCompleted, river.EventKindJobFailed},
	})
	defer unsubscribe()
	before, err := cpuTime(ctx, pool)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := client.Start(ctx); err != nil {
		return err
	}
	err = w.await(events)
	took := time.Since(began)
	after, cpuErr := cpuTime(ctx, pool)
	if err = errors.Join(err, cpuErr, client.Stop(ctx)); err != nil {
		return err
	}
	n := float64(w.requests)
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"requests_per_second": n / took.Seconds(), "cpu_seconds_per_request": (after - before).Seconds() / n,
	})
}

func (w *work) insert(ctx context.Context, client *client) error {
	body := json.RawMessage(fmt.Sprintf(`{"model":"bench","messages":[{"role":"user","content":%q}]}`, strings.Repeat("x", max(w.bodyBytes-64, 0))))
	const chunk = 1000
	for first := 0; first < w.requests; first += chunk {
		params := make([]river.InsertManyParams, min(chunk, w.requests-first))
		for i := range params {
			params[i].Args = callArgs{fmt.Sprintf("request-%d", first+i), body}
		}
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			return err
		}
	}
	return nil
}

// await waits until all jobs have completed, which is when their rows say so.
func (w *work) await(events <-chan *river.Event) error {
	for done := range w.requests {
		select {
		case e := <-events:
			if e.Kind == river.EventKindJobFailed {
				return errors.New("a job failed")
			}
		case <-time.After(time.Minute):
			return fmt.Errorf("%d of %d jobs completed, and none within a minute", done, w.requests)
		}
	}
	return nil
}

// cpuTime is that of this process, and of the sessions of the database where the
// server is on this machine. Format: proc(5); ticks of 1/100 s.
func cpuTime(ctx context.Context, pool *pgxpool.Pool) (sum time.Duration, err error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, err
	}
	sum = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	rows, err := pool.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE datname = current_database()`)
	if err != nil {
		return 0, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // on another machine, or ended
		}
		for _, ticks := range strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[11:13] {
			n, _ := strconv.Atoi(ticks)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum, nil
}
