package postgres

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

func retried(t testing.TB, s *Store, id batch.ID, states ...batch.State) int {
	t.Helper()
	n, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, states...)
	if err != nil {
		t.Fatal(err)
	}
	check(t, s)
	return n
}

func TestRetryRequests(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 4)
	first := started(t, s, d, id, 4)
	finish(t, s, d, completed(first[0]), failed(first[1]), failed(first[2]), completed(first[3]))
	before, err := checker.Snapshot(t.Context(), s.pool, id)
	if err != nil {
		t.Fatal(err)
	}
	if n := retried(t, s, id, batch.Canceled, batch.Expired); n != 0 {
		t.Errorf("%d retried of none", n)
	}
	if b, err := s.GetBatch(t.Context(), id, nil); err != nil || b.Status != batch.StatusCompleted {
		t.Errorf("after a retry of nothing: %+v, %v", b, err)
	}
	if n := retried(t, s, id, batch.Failed); n != 2 {
		t.Errorf("%d retried, want 2", n)
	}
	b, err := s.GetBatch(t.Context(), id, nil)
	if want := (batch.Counts{Total: 4, InProgress: 2, Completed: 2}); err != nil || b.Status != batch.StatusInProgress || b.Counts != want || !b.FinishedAt.IsZero() {
		t.Errorf("reopened: %+v, %v", b, err)
	}
	if err := before.Unchanged(t.Context(), s.pool); err != nil {
		t.Error(err)
	}

	// A new life: attempt 0 again, a generation of its own, and claims that go
	// on, so that nothing of the first life fits.
	due, err := s.claimAnyDue(t.Context(), testModel, 10, nil)
	if err != nil || len(due) != 2 || due[0].Claim != 2 || due[0].Attempt != 0 {
		t.Fatalf("%+v, %v", due, err)
	}
	if n := finish(t, s, d, completed(first[1]), completed(first[2])); n != 0 {
		t.Errorf("%d results of the first life were written", n)
	}
	for _, st := range start(t, s, rules(d), first[1], first[2]) {
		if st.Verdict != Stale {
			t.Errorf("verdict %d of a message of the first life", st.Verdict)
		}
	}
	second := delivered(due, 1)
	for _, st := range start(t, s, rules(d), second...) {
		if st.Verdict != Started || st.Attempt != 0 || st.Generation != 1 || st.Template.CustomID == "" {
			t.Errorf("%+v", st)
		}
	}
	if n := finish(t, s, d, completed(first[1])); n != 0 {
		t.Error("a result of the first life was written by the daemon of the second")
	}
	finish(t, s, d, completed(second[0]), failed(second[1]))
	var seqs []int64
	for _, r := range page(t, s, id, 0, 10) {
		seqs = append(seqs, r.Seq)
	}
	if diff := cmp.Diff([]int64{0, 3, 4, 5}, seqs); diff != "" {
		t.Errorf("places in the output (-want +got):\n%s", diff)
	}
	if n := retried(t, s, id, batch.Failed); n != 1 {
		t.Errorf("%d retried, want 1", n)
	}
	due, err = s.claimAnyDue(t.Context(), testModel, 10, nil)
	if err != nil || len(due) != 1 || due[0].Claim != 3 {
		t.Fatalf("%+v, %v", due, err)
	}
	if st := start(t, s, rules(d), delivered(due, 1)...); st[0].Generation != 2 {
		t.Errorf("generation %d of the third life", st[0].Generation)
	}

	for _, state := range []batch.State{batch.Completed, batch.Pending, batch.Processing} {
		_, err = s.RerunRequests(t.Context(), id, batch.Allowance{}, state)
		wantErr(t, err, batch.ErrNotRerunnable)
	}
	_, err = s.RerunRequests(t.Context(), batch.ID{1}, batch.Allowance{}, batch.Failed)
	wantErr(t, err, batch.ErrNotFound)
}

// Lines that were never claimed come back without a row each.
func TestRetryOfSkippedLinesWritesNoRows(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 50, testModel, otherName)
	claimed(t, s, id, 5)
	if _, err := s.CancelBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := retried(t, s, id, batch.Canceled); n != 50 {
		t.Errorf("%d retried, want 50", n)
	}
	if n := sqlInt(t, s, `SELECT count(*) FROM requests WHERE batch_id = $1`, [16]byte(id)); n != 5 {
		t.Errorf("%d live rows, want 5", n)
	}
	if got := page(t, s, id, 0, 100); len(got) != 0 {
		t.Errorf("%d results of a batch in which none has ended", len(got))
	}
	claimed(t, s, id, 20)
	if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Counts.Canceled != 50 {
		t.Errorf("%+v, %v", b, err)
	}
	check(t, s)
	if got := readAll(t, s, id); len(got) != 50 {
		t.Errorf("%d lines in the output", len(got))
	}
}

func TestRetryRenewsADeadlineThatHasPassed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 3)
	window := func() (left, length time.Duration) {
		t.Helper()
		if err := s.queryRow(t.Context(), `
SELECT expires_at - now(), expires_at - COALESCE(renewed_at, created_at) FROM batches WHERE id = $1`,
			[]any{[16]byte(id)}, &left, &length); err != nil {
			t.Fatal(err)
		}
		return left, length
	}
	cancelLine := func() {
		t.Helper()
		if _, err := s.CancelRequests(t.Context(), id, []int32{1}); err != nil {
			t.Fatal(err)
		}
	}
	cancelLine()
	sqlExec(t, s, `UPDATE batches SET created_at = created_at - interval '23 h', expires_at = expires_at - interval '23 h'`)
	retried(t, s, id, batch.Canceled)
	if left, _ := window(); left > time.Hour {
		t.Errorf("%v are left of a deadline that had not passed", left)
	}
	for range 2 {
		sqlExec(t, s, `UPDATE batches SET created_at = created_at - interval '2 day', expires_at = expires_at - interval '2 day',
       renewed_at = renewed_at - interval '2 day'`)
		cancelLine()
		retried(t, s, id, batch.Canceled)
		left, length := window()
		if length != 24*time.Hour || left < 23*time.Hour {
			t.Errorf("%v are left of a new window of %v, want 24h", left, length)
		}
	}
}

// More than fits into one transaction; other requests fail again meanwhile.
func TestRetryInChunks(t *testing.T) {
	t.Parallel()
	const n = sliceRequests + 500
	s := newStore(t)
	id := batchOf(t, s, newLargeFile(t, s, n))
	sqlExec(t, s, `
INSERT INTO results (batch_id, line, seq, state, attempts, reason, routed_model, claim)
SELECT $1, n, n - 1, 'failed', 1, 'timeout', $2, 1 FROM generate_series(1, $3::int) n`, [16]byte(id), string(testModel), n)
	sqlExec(t, s, `UPDATE cursors SET claimed = total, last_line = total, open = false WHERE batch_id = $1`, [16]byte(id))
	sqlExec(t, s, `UPDATE batches SET failed = total, next_seq = total, status = 'failed', finished_at = now() WHERE id = $1`, [16]byte(id))
	if got := retried(t, s, id, batch.Failed); got != n {
		t.Errorf("%d retried, want %d", got, n)
	}
	if c := counts(t, s, id); c.InProgress != n || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
	if got := sqlInt(t, s, `SELECT count(DISTINCT generation) FROM requests WHERE batch_id = $1`, [16]byte(id)); got != 1 {
		t.Errorf("%d generations in one retry", got)
	}
}

// A reader follows the output while requests are retried and end again. In the
// end it has seen the last result of each.
func TestReaderFollowsRetries(t *testing.T) {
	t.Parallel()
	const lines = 200
	s := newStore(t)
	id := newBatch(t, s, lines)
	stop := make(chan struct{})
	wg := traffic(t, s, id, stop)
	retries := make(chan struct{})
	go func() {
		defer close(retries)
		for i := range 30 {
			var err error
			switch rand.IntN(3) {
			case 0:
				_, err = s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{1 + rand.Int32N(lines)})
			case 1:
				_, err = s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Failed, batch.Expired)
			case 2:
				if overdue(t, s, id, time.Second); i%5 == 0 {
					_, err = s.ExpireBatches(t.Context(), 0, 10)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	last := make(map[int32]batch.Result)
	next, running := int64(0), true
	for {
		got := page(t, s, id, next, 1+rand.IntN(20))
		if len(got) == 0 && !running {
			break
		}
		for _, r := range got {
			if r.Seq < next {
				t.Fatalf("seq %d after %d", r.Seq, next-1)
			}
			next, last[r.ID.Line] = r.Seq+1, r
		}
		select {
		case <-retries:
			if running {
				close(stop)
				wg.Wait()
				running = false
			}
		default:
		}
	}
	for line, state := range readAll(t, s, id) {
		if last[line].State != state {
			t.Errorf("line %d is %s, and the reader saw %q last", line, state, last[line].State)
		}
	}
	check(t, s)
}

func TestRetryLines(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 10)
	deliveries := started(t, s, d, id, 4)
	finish(t, s, d, completed(deliveries[0]), failed(deliveries[1]), failed(deliveries[2]))
	expireNow(t, s, id) // 5 to 10; 4 is being called
	got, err := s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{9, 2, 1, 4, 7})
	if diff := cmp.Diff(Lines{Changed: []int32{2, 7, 9}, Unchanged: []int32{1, 4}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	check(t, s)
	if c := counts(t, s, id); c.Expired != 4 || c.Failed != 1 || c.InProgress != 4 {
		t.Errorf("%+v", c)
	}
	states := readAll(t, s, id)
	if len(states) != 6 || states[7] != "" || states[8] != batch.Expired {
		t.Errorf("output: %v", states)
	}
	_, err = s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{3, 11})
	wantErr(t, err, batch.ErrNotFound)
	if c := counts(t, s, id); c.Failed != 1 {
		t.Error("a retry with an unknown line did something")
	}
	// The rest of what was skipped comes back beside the holes.
	if n := retried(t, s, id, batch.Expired); n != 4 {
		t.Errorf("%d retried, want 4", n)
	}
	var lines []int32
	for _, delivery := range claimed(t, s, id, 4) {
		lines = append(lines, delivery.ID.Line)
	}
	if !slices.Equal(lines, []int32{5, 6, 8, 10}) {
		t.Errorf("claimed %v", lines)
	}
	check(t, s)
}

// Of the lines beyond a cursor that was closed, those that came back one by one
// are live, and later have results: neither comes back a second time, though
// others beside them are skipped still.
func TestRetryLinesBesideSkipped(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 4)
	expireNow(t, s, id)
	rerun := func(lines []int32, want Lines) {
		t.Helper()
		got, err := s.RerunLines(t.Context(), id, batch.Allowance{}, lines)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		check(t, s)
	}
	rerun([]int32{2}, Lines{Changed: []int32{2}})
	rerun([]int32{2, 4}, Lines{Changed: []int32{4}, Unchanged: []int32{2}})
	due, err := s.claimAnyDue(t.Context(), testModel, 10, nil)
	if err != nil || len(due) != 2 {
		t.Fatalf("%+v, %v", due, err)
	}
	deliveries := delivered(due, 1)
	start(t, s, rules(d), deliveries...)
	finish(t, s, d, endings(completed, deliveries)...)
	rerun([]int32{2, 3, 4}, Lines{Changed: []int32{3}, Unchanged: []int32{2, 4}})
}

// What is pending yet in a batch that runs did not end, and does not come back.
func TestRetryLinesThatArePending(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 4)
	finish(t, s, d, endings(failed, started(t, s, d, id, 1))...)
	got, err := s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{1, 3})
	if diff := cmp.Diff(Lines{Changed: []int32{1}, Unchanged: []int32{3}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	check(t, s)
	if n := len(claimed(t, s, id, 3)); n != 3 {
		t.Errorf("%d claimed of what was never claimed, want 3", n)
	}
}
