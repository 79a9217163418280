package postgres

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

func TestFinishIsFenced(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	other := newDaemon(t, s)
	type write func(batch.DaemonID, Delivery) (int, error)
	writes := map[string]write{
		"end": func(d batch.DaemonID, delivery Delivery) (int, error) {
			written, err := s.Finish(t.Context(), d, []Completion{completed(delivery)}, nil)
			return len(written), err
		},
		"return": func(d batch.DaemonID, delivery Delivery) (int, error) {
			written, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: delivery, Retry: true, Delay: time.Hour}})
			return len(written), err
		},
	}
	for _, test := range []struct {
		name   string
		change func(d *batch.DaemonID, delivery *Delivery)
		before func(d batch.DaemonID, delivery Delivery) // after the start
		want   int
	}{
		{name: "its owner", want: 1},
		{name: "another daemon", change: func(d *batch.DaemonID, _ *Delivery) { *d = other }},
		{name: "an earlier claim", change: func(_ *batch.DaemonID, d *Delivery) { d.Claim-- }},
		{name: "a later claim", change: func(_ *batch.DaemonID, d *Delivery) { d.Claim++ }},
		{name: "an earlier delivery", change: func(_ *batch.DaemonID, d *Delivery) { d.Number-- }},
		{name: "a later delivery", change: func(_ *batch.DaemonID, d *Delivery) { d.Number++ }},
		{name: "another line", change: func(_ *batch.DaemonID, d *Delivery) { d.ID.Line++ }},
		{name: "another batch", change: func(_ *batch.DaemonID, d *Delivery) { d.ID.Batch[0]++ }},
		{name: "taken over", before: func(_ batch.DaemonID, d Delivery) {
			sqlExec(t, s, `UPDATE requests SET started_at = now() - interval '2 h' WHERE batch_id = $1`, [16]byte(d.ID.Batch))
			d.Number++
			start(t, s, rules(other), d)
		}},
		{name: "redelivered to the same daemon", before: func(daemon batch.DaemonID, d Delivery) {
			d.Number++
			start(t, s, rules(daemon), d)
		}},
		{name: "returned", before: func(daemon batch.DaemonID, d Delivery) {
			if _, err := s.Finish(t.Context(), daemon, nil, []Release{{Delivery: d}}); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "ended", before: func(daemon batch.DaemonID, d Delivery) { finish(t, s, daemon, failed(d)) }},
		{name: "released", before: func(_ batch.DaemonID, d Delivery) {
			r := ClaimedRequest{ID: d.ID, Claim: d.Claim, Delivery: d.Number}
			if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{r}, 0); err != nil || n != 1 {
				t.Fatal(n, err)
			}
		}},
		{name: "claimed anew and started with the same delivery", before: func(daemon batch.DaemonID, d Delivery) {
			r := ClaimedRequest{ID: d.ID, Claim: d.Claim, Delivery: d.Number}
			if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{r}, 0); err != nil || n != 1 {
				t.Fatal(n, err)
			}
			again, err := s.claimAnyDue(t.Context(), testModel, 1, nil)
			if err != nil || len(again) != 1 {
				t.Fatal(again, err)
			}
			start(t, s, rules(daemon), delivered(again, d.Number)...)
		}},
	} {
		for name, write := range writes {
			t.Run(name+" by "+test.name, func(t *testing.T) {
				d := newDaemon(t, s)
				id := newBatch(t, s, 1)
				unclaimed(t, s, id, 1, 0)
				again, err := s.claimAnyDue(t.Context(), testModel, 1, nil) // claim 2, so that there is an earlier one
				if err != nil || len(again) != 1 {
					t.Fatal(again, err)
				}
				delivery := delivered(again, 2)[0]
				start(t, s, rules(d), delivery)
				if test.before != nil {
					test.before(d, delivery)
				}
				const sql = `SELECT COALESCE((SELECT r::text FROM requests r WHERE batch_id = $1), 'none')`
				var before, after string
				if err := s.queryRow(t.Context(), sql, []any{[16]byte(id)}, &before); err != nil {
					t.Fatal(err)
				}
				results, err := checker.Snapshot(t.Context(), s.pool, id)
				if err != nil {
					t.Fatal(err)
				}
				if test.change != nil {
					test.change(&d, &delivery)
				}
				if got, err := write(d, delivery); err != nil || got != test.want {
					t.Errorf("%d written, %v, want %d", got, err, test.want)
				}
				if err := s.queryRow(t.Context(), sql, []any{[16]byte(id)}, &after); err != nil {
					t.Fatal(err)
				}
				if test.want == 0 && after != before {
					t.Errorf("the row was %s and is %s", before, after)
				}
				if err := results.Unchanged(t.Context(), s.pool); err != nil {
					t.Error(err)
				}
				check(t, s)
			})
		}
	}
}

func TestFinishRecordsTheResult(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 4)
	deliveries := started(t, s, d, id, 4)
	want := []batch.Result{
		{State: batch.Completed, StatusCode: 200, RequestID: "req-1", Body: []byte("\x00\xff no text"), Attempts: 3},
		{State: batch.Completed, StatusCode: 204, Body: []byte{}, Attempts: 1},
		{State: batch.Failed, Reason: batch.NonRetriableHTTPStatus, StatusCode: 400, Body: bytes.Repeat([]byte("ü"), 1<<20), Attempts: 1, Detail: "bad request"},
		{State: batch.Failed, Reason: batch.Timeout, Attempts: 1001, Detail: "timeout"},
	}
	var set []Completion
	for i, r := range want {
		set = append(set, Completion{
			Delivery: deliveries[i], State: r.State, Reason: r.Reason, Attempts: r.Attempts, StatusCode: r.StatusCode,
			RequestID: r.RequestID, Body: r.Body, Detail: r.Detail, AnsweredModel: "m", Usage: batch.Usage{PromptTokens: 1 << 40, CompletionTokens: 7},
		})
		want[i].ID, want[i].Seq, want[i].CustomID = deliveries[i].ID, int64(i), templates(i+1, 1, testModel)[0].CustomID
	}
	// Given in any order, results of one flush are numbered by line.
	rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	if n := finish(t, s, d, set...); n != 4 {
		t.Fatalf("%d written", n)
	}
	got, err := s.Results(t.Context(), id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, asBytes); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	n := sqlInt(t, s, `SELECT count(*) FROM results WHERE prompt_tokens = 1::bigint << 40 AND completion_tokens = 7
		AND answered_model = 'm' AND routed_model = $1 AND started_at <= finished_at`, string(testModel))
	if n != 4 {
		t.Errorf("%d results have their tokens, models and times", n)
	}
	check(t, s)
}

func TestBatchEndsWithItsLastRequest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	for _, test := range []struct {
		name string
		ends []func(Delivery) Completion
		want batch.Status
	}{
		{"all completed", []func(Delivery) Completion{completed, completed, completed}, batch.StatusCompleted},
		{"one completed, first", []func(Delivery) Completion{completed, failed, failed}, batch.StatusCompleted},
		{"one completed, last", []func(Delivery) Completion{failed, failed, completed}, batch.StatusCompleted},
		{"all failed", []func(Delivery) Completion{failed, failed, failed}, batch.StatusFailed},
	} {
		for _, once := range []bool{true, false} {
			id := newBatch(t, s, 3)
			deliveries := started(t, s, d, id, 3)
			var flush []Completion
			for i, end := range test.ends {
				b, err := s.GetBatch(t.Context(), id, nil)
				if err != nil || b.Status.Terminal() || !b.FinishedAt.IsZero() {
					t.Errorf("%s: %s, finished at %s, before its last request, %v", test.name, b.Status, b.FinishedAt, err)
				}
				if flush = append(flush, end(deliveries[i])); once && i < 2 {
					continue
				}
				if n := finish(t, s, d, flush...); n != len(flush) {
					t.Errorf("%s: %d written, want %d", test.name, n, len(flush))
				}
				flush = nil
				check(t, s)
			}
			b, err := s.GetBatch(t.Context(), id, nil)
			if err != nil || b.Status != test.want || b.FinishedAt.IsZero() {
				t.Errorf("%s: %s, finished at %s, %v, want %s", test.name, b.Status, b.FinishedAt, err, test.want)
			}
		}
	}
}

func TestFinishTwiceWritesOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 20)
	deliveries := started(t, s, d, id, 20)
	if n := finish(t, s, d, endings(completed, deliveries[:10])...); n != 10 {
		t.Errorf("%d written", n)
	}
	before, err := checker.Snapshot(t.Context(), s.pool, id)
	if err != nil {
		t.Fatal(err)
	}
	if n := finish(t, s, d, endings(failed, deliveries[:10])...); n != 0 {
		t.Errorf("%d written again", n)
	}
	written, err := s.Finish(t.Context(), d, endings(failed, deliveries[5:15]), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, delivery := range deliveries[:15] {
		if written[delivery.ID] != (i >= 10) {
			t.Errorf("line %d written: %t", i+1, written[delivery.ID])
		}
	}
	if err := before.Unchanged(t.Context(), s.pool); err != nil {
		t.Error(err)
	}
	check(t, s)
}

func TestFinishOfNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	if n := finish(t, s, d); n != 0 {
		t.Errorf("%d written", n)
	}
	// A delivery given twice counts once.
	delivery := started(t, s, d, newBatch(t, s, 2), 1)[0]
	if n := finish(t, s, d, completed(delivery), failed(delivery)); n != 1 {
		t.Errorf("%d written", n)
	}
	check(t, s)
}

// Flushes of the same endings race: as when an answer was lost, and the first
// try is still under way.
func TestConcurrentFinishWritesOnce(t *testing.T) {
	t.Parallel()
	const lines, flushers = 120, 4
	s := newStore(t)
	d := newDaemon(t, s)
	ids := []batch.ID{newBatch(t, s, lines), newBatch(t, s, lines)}
	all := slices.Concat(started(t, s, d, ids[0], lines), started(t, s, d, ids[1], lines))
	var mu sync.Mutex
	times := make(map[batch.RequestID]int)
	var wg sync.WaitGroup
	for range flushers {
		set := slices.Clone(all)
		rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		wg.Go(func() {
			for chunk := range slices.Chunk(set, 30) {
				var back []Release
				for _, delivery := range chunk[20:] {
					back = append(back, Release{Delivery: delivery, Retry: true})
				}
				written, err := s.Finish(t.Context(), d, endings(completed, chunk[:20]), back)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for id := range written {
					times[id]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(times) != len(all) {
		t.Errorf("%d of %d written", len(times), len(all))
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was written %d times", id, n)
		}
	}
	if n := sqlInt(t, s, `SELECT count(*) FROM requests WHERE attempt <> 1`); n != 0 {
		t.Errorf("%d returns counted more than once", n)
	}
	check(t, s)
}

// Every daemon flushes requests of every batch, in its own order.
func TestConcurrentFlushesNeverDeadlock(t *testing.T) {
	t.Parallel()
	const batches, lines, daemons = 6, 100, 8
	s := newStore(t)
	file := newFile(t, s, templates(1, lines, testModel))
	var all []Delivery
	for range batches {
		all = append(all, claimed(t, s, batchOf(t, s, file), lines)...)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var wg sync.WaitGroup
	for mine := range slices.Chunk(all, len(all)/daemons) {
		d := newDaemon(t, s)
		wg.Go(func() {
			for flush := range slices.Chunk(mine, 25) {
				starts, err := s.Start(t.Context(), rules(d), flush)
				if err != nil || slices.ContainsFunc(starts, func(st Start) bool { return st.Verdict != Started }) {
					t.Errorf("%v, %v", starts, err)
					return
				}
				written, err := s.Finish(t.Context(), d, endings(completed, flush), nil)
				if err != nil || len(written) != len(flush) {
					t.Errorf("%d of %d written, %v", len(written), len(flush), err)
					return
				}
			}
		})
	}
	wg.Wait()
	check(t, s)
	if n := sqlInt(t, s, `SELECT count(*) FROM batches WHERE status = 'completed'`); n != batches {
		t.Errorf("%d of %d batches have finished", n, batches)
	}
}

func TestReturn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 3)
	deliveries := started(t, s, d, id, 3)
	written, err := s.Finish(t.Context(), d, nil, []Release{
		{Delivery: deliveries[0], Retry: true, Delay: time.Hour, Reason: batch.RetriableHTTPStatus, StatusCode: 429},
		{Delivery: deliveries[1]},
	})
	if err != nil || len(written) != 2 || written[deliveries[2].ID] {
		t.Fatalf("written %v, %v", written, err)
	}
	type row struct {
		State      string
		Attempt    int
		Owned, Due bool
		Minutes    int
		Reason     *string
		Status     *int
	}
	rows, err := s.pool.Query(t.Context(), `
SELECT state::text, attempt, daemon_id IS NOT NULL, due_at IS NOT NULL,
       COALESCE(round(extract(epoch FROM not_before - now()) / 60), -1)::int, last_reason, last_status
  FROM requests ORDER BY line`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	reason, status := string(batch.RetriableHTTPStatus), 429
	want := []row{
		{State: "pending", Attempt: 1, Minutes: 60, Reason: &reason, Status: &status},
		{State: "pending"},
		{State: "processing", Owned: true, Minutes: -1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	check(t, s)
}

// What Postgres refuses for its content takes the whole flush with it, and is
// not worth a retry.
func TestFinishRefusesWhatIsNoText(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 2)
	deliveries := started(t, s, d, id, 2)
	for name, spoil := range map[string]func(*Completion){
		"NUL in the request id":   func(e *Completion) { e.RequestID = "a\x00b" },
		"NUL in the model":        func(e *Completion) { e.AnsweredModel = "\x00" },
		"NUL in the detail":       func(e *Completion) { e.Detail = "\x00" },
		"request id is not UTF-8": func(e *Completion) { e.RequestID = "\xff" },
		"model is not UTF-8":      func(e *Completion) { e.AnsweredModel = "\xc3" },
		"unknown state":           func(e *Completion) { e.State = "done" },
		"not a final state":       func(e *Completion) { e.State = batch.Pending },
		"completed with a reason": func(e *Completion) { e.Reason = batch.Timeout },
		"failed without a reason": func(e *Completion) { e.State = batch.Failed },
		"negative attempts":       func(e *Completion) { e.Attempts = -1 },
	} {
		bad := completed(deliveries[1])
		spoil(&bad)
		written, err := s.Finish(t.Context(), d, []Completion{completed(deliveries[0]), bad}, nil)
		if err == nil || Transient(err) || len(written) != 0 {
			t.Errorf("%s: %d written, %v, transient: %t", name, len(written), err, Transient(err))
		}
		check(t, s)
	}
	if got := counts(t, s, id); got != (batch.Counts{Total: 2, InProgress: 2}) {
		t.Errorf("%+v", got)
	}
}

func TestFinishCountsEachState(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 10)
	deliveries := started(t, s, d, id, 8)
	states := []batch.State{batch.Completed, batch.Failed, batch.Canceled, batch.Expired, batch.Canceled, batch.Expired, batch.Expired}
	var set []Completion
	for i, state := range states {
		e := failed(deliveries[i])
		if e.State = state; state == batch.Completed {
			e.Reason = ""
		}
		set = append(set, e)
	}
	if n := finish(t, s, d, set...); n != len(states) {
		t.Errorf("%d written, want %d", n, len(states))
	}
	want := batch.Counts{Total: 10, Pending: 2, InProgress: 1, Completed: 1, Failed: 1, Canceled: 2, Expired: 3}
	if got := counts(t, s, id); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	check(t, s)
}
