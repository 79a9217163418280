package postgres

import (
	"context"
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

// readAll reads the whole output of a batch in pages of a few, and returns the
// state of each line.
func readAll(t testing.TB, s *Store, id batch.ID) map[int32]batch.State {
	t.Helper()
	states := make(map[int32]batch.State)
	for next := int64(0); ; {
		got := page(t, s, id, next, 7)
		if len(got) == 0 {
			return states
		}
		for _, r := range got {
			if r.Seq < next || states[r.ID.Line] != "" {
				t.Fatalf("line %d at seq %d, after %d", r.ID.Line, r.Seq, next-1)
			}
			next, states[r.ID.Line] = r.Seq+1, r.State
		}
	}
}

// A batch in which there is a request in every state.
func varied(t testing.TB, s *Store, d batch.DaemonID) (id batch.ID, processing []Delivery) {
	t.Helper()
	id = newBatch(t, s, 40, testModel, otherName)
	deliveries := started(t, s, d, id, 10)
	finish(t, s, d, completed(deliveries[0]), failed(deliveries[1]))
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: deliveries[2], Retry: true, Delay: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	unclaimed := ClaimedRequest{ID: deliveries[3].ID, Claim: 1, Delivery: 1}
	if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{unclaimed}, 0); err != nil || n != 1 {
		t.Fatalf("%d released, %v", n, err)
	}
	claimed(t, s, id, 3)
	check(t, s)
	return id, deliveries[4:]
}

func TestCancelBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id, processing := varied(t, s, d)
	before, err := checker.Snapshot(t.Context(), s.pool, id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.CancelBatch(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := batch.Counts{Total: 40, Completed: 1, Failed: 1, Canceled: 38}
	if b.Status != batch.StatusCancelled || b.Counts != want || b.FinishedAt.IsZero() || b.CancellingAt.IsZero() {
		t.Errorf("cancelled: %+v", b)
	}
	check(t, s)
	if err := before.Unchanged(t.Context(), s.pool); err != nil {
		t.Error(err)
	}

	// Nothing of it moves any more.
	for _, model := range []batch.Model{testModel, otherName} {
		if got, err := s.Claim(t.Context(), model, []Quota{{Batch: id, N: 5}}); err != nil || len(got) != 0 {
			t.Errorf("%d claimed, %v", len(got), err)
		}
		if got, err := s.claimAnyDue(t.Context(), model, 5, nil); err != nil || len(got) != 0 {
			t.Errorf("%d due ones claimed, %v", len(got), err)
		}
		if got, _, err := s.OpenCursors(t.Context(), model, []Route{{}}, ""); err != nil || len(got) != 0 {
			t.Errorf("%d open cursors, %v", len(got), err)
		}
	}
	if n := finish(t, s, d, endings(completed, processing)...); n != 0 {
		t.Errorf("%d written after the cancel", n)
	}
	again := slices.Clone(processing)
	for i := range again {
		again[i].Number++
	}
	for _, st := range start(t, s, rules(d), again...) {
		if st.Verdict != Stale {
			t.Errorf("verdict %d of a canceled request, want stale", st.Verdict)
		}
	}
	_, err = s.CancelBatch(t.Context(), id)
	wantErr(t, err, batch.ErrBatchFinished)
	_, err = s.CancelBatch(t.Context(), batch.ID{1})
	wantErr(t, err, batch.ErrNotFound)

	states := readAll(t, s, id)
	if len(states) != 40 || states[1] != batch.Completed || states[3] != batch.Failed || states[2] != batch.Canceled || states[40] != batch.Canceled {
		t.Errorf("output: %v", states)
	}
	// Skipped lines come last, in the order of lines, whatever their model.
	var lines []int32
	for _, r := range page(t, s, id, 13, 100) {
		if r.Reason != batch.BatchCancelled || r.CustomID == "" || r.Attempts != 0 {
			t.Errorf("skipped line: %+v", r)
		}
		lines = append(lines, r.ID.Line)
	}
	if len(lines) != 27 || !slices.IsSorted(lines) {
		t.Errorf("skipped lines: %v", lines)
	}
	for _, r := range page(t, s, id, 0, 100) { // of those that were live
		if r.ID.Line == processing[0].ID.Line && r.Attempts != 1 || r.ID.Line == 25 && r.Attempts != 0 {
			t.Errorf("line %d has %d attempts", r.ID.Line, r.Attempts)
		}
	}
}

// A reader may begin anywhere among skipped lines and goes on from there.
// The cancel of a batch leaves others of the same file alone, wherever their
// requests are.
func TestCancelBatchIsOfOneBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 6, testModel))
	id, other := batchOf(t, s, file), batchOf(t, s, file)
	started(t, s, d, id, 2)
	claimed(t, s, id, 2)
	kept := started(t, s, d, other, 2)
	claimed(t, s, other, 2)
	if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Counts.Canceled != 6 {
		t.Fatalf("%+v, %v", b, err)
	}
	check(t, s)
	if got, want := counts(t, s, other), (batch.Counts{Total: 6, Pending: 2, InProgress: 4}); got != want {
		t.Errorf("counts of the other batch are %+v, want %+v", got, want)
	}
	if n := finish(t, s, d, endings(completed, kept)...); n != 2 {
		t.Errorf("%d results of the other batch were written, want 2", n)
	}
	claimed(t, s, other, 2)
	check(t, s)
}

func TestResultsOfSkippedLinesResume(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 250, testModel)
	claimed(t, s, id, 3)
	if _, err := s.CancelBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, 2, 3, 4, 100, 248, 249, 250, 5000, 1 << 40} {
		var want, got []int64
		for seq := from; seq < 250; seq++ {
			want = append(want, seq)
		}
		for next := from; ; {
			p := page(t, s, id, next, 120)
			if len(p) == 0 {
				break
			}
			for _, r := range p {
				if got = append(got, r.Seq); r.Seq != int64(r.ID.Line)-1 {
					t.Errorf("line %d has seq %d", r.ID.Line, r.Seq)
				}
			}
			next = p[len(p)-1].Seq + 1
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %d (-want +got):\n%s", from, diff)
		}
	}
	if got := page(t, s, id, 5, 0); len(got) != 0 {
		t.Errorf("%d results of none", len(got))
	}
}

// What a cancel reads follows from what is live, not from what waits.
func TestCancelDoesNotGrow(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var blocks [2]float64
	for i, n := range []int{2_000, 100_000} {
		id := batchOf(t, s, newLargeFile(t, s, n))
		claimed(t, s, id, 50)
		sqlExec(t, s, `VACUUM ANALYZE`)
		live := make([]int32, 50)
		for line := range live {
			live[line] = int32(line + 1)
		}
		for _, plan := range []*node{
			explain(t, s, ", ANALYZE, BUFFERS", lockLiveSQL, [16]byte(id), true, sliceRequests),
			explain(t, s, ", ANALYZE, BUFFERS", finishSliceSQL, [16]byte(id), string(batch.Canceled), string(batch.BatchCancelled), live),
		} {
			if scans := plan.wholeScans(); len(scans) > 0 {
				t.Errorf("%v", scans)
			}
			if blocks[i] += plan.Hit + plan.Read; plan.touched() > 500 {
				t.Errorf("a cancel of %d lines, 50 of them live, reads %.0f rows", n, plan.touched())
			}
		}
	}
	if blocks[1] > 1.5*blocks[0]+20 {
		t.Errorf("a cancel reads %.0f blocks, and %.0f of a batch 50 times as large", blocks[0], blocks[1])
	}
}

// traffic claims, starts and finishes requests of a batch from several
// goroutines until stop, or until nothing can be claimed.
func traffic(t *testing.T, s *Store, id batch.ID, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range 4 {
		d := newDaemon(t, s)
		wg.Go(func() {
			for !t.Failed() {
				select {
				case <-stop:
					return
				default:
				}
				got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 1 + rand.IntN(8)}})
				if err != nil {
					t.Error(err)
					return
				}
				due, err := s.claimAnyDue(t.Context(), testModel, 4, nil)
				if err != nil {
					t.Error(err)
					return
				}
				deliveries := delivered(append(got, due...), 1)
				starts, err := s.Start(t.Context(), rules(d), deliveries)
				if err != nil {
					t.Error(err)
					return
				}
				var ends []Completion
				var back []Release
				for i, st := range starts {
					switch {
					case st.Verdict != Started:
					case rand.IntN(3) == 0:
						ends = append(ends, completed(deliveries[i]))
					case rand.IntN(2) == 0:
						ends = append(ends, failed(deliveries[i]))
					case rand.IntN(2) == 0:
						back = append(back, Release{Delivery: deliveries[i], Retry: true})
					}
				}
				if _, err := s.Finish(t.Context(), d, ends, back); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return &wg
}

// Cancels, whole and line by line, meet claims, starts and finishes: nothing
// is lost or there twice at any time, and nothing moves after the last word.
func TestCancelRaces(t *testing.T) {
	t.Parallel()
	const lines = 400
	s := newStore(t)
	for range 8 {
		id := newBatch(t, s, lines)
		stop := make(chan struct{})
		wg := traffic(t, s, id, stop)
		var cancelling sync.WaitGroup
		for range 2 {
			cancelling.Go(func() {
				for range 10 {
					some := []int32{1 + rand.Int32N(lines), 1 + rand.Int32N(lines), 1 + rand.Int32N(lines)}
					if _, err := s.CancelRequests(t.Context(), id, some); err != nil {
						t.Error(err)
					}
					if err := checker.Check(t.Context(), s.pool, id); err != nil {
						t.Error(err)
					}
				}
			})
		}
		cancelling.Wait()
		b, err := s.CancelBatch(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		after, err := checker.Snapshot(t.Context(), s.pool, id)
		if err != nil {
			t.Fatal(err)
		}
		if b.Status != batch.StatusCancelled || b.Counts.Done() != lines {
			t.Errorf("cancelled: %+v", b)
		}
		check(t, s)
		if err := after.Unchanged(t.Context(), s.pool); err != nil {
			t.Error(err)
		}
		close(stop)
		wg.Wait()
		if c := counts(t, s, id); c != b.Counts {
			t.Errorf("counts were %+v and are %+v", b.Counts, c)
		}
		if got := len(readAll(t, s, id)); got != lines {
			t.Errorf("%d lines in the output, want %d", got, lines)
		}
	}
	check(t, s)
}

// Between two slices of a cancel nothing of the batch is claimed any more, whether
// it was never claimed or is due.
func TestCancelBatchInSlicesClaimsNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 5)
	other := newBatch(t, s, 1)
	for _, d := range append(claimed(t, s, id, 4), claimed(t, s, other, 1)...) {
		if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{{ID: d.ID, Claim: d.Claim}}, 0); err != nil || n != 1 {
			t.Fatalf("%d released, %v", n, err)
		}
	}
	s.slice = 2
	if err := s.inTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, _, err := s.cancelSlice(ctx, tx, id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, s, id); got.InProgress != 2 || got.Pending != 0 {
		t.Fatalf("after a slice: %+v", got)
	}
	if got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 5}}); err != nil || len(got) != 0 {
		t.Errorf("claimed %+v, %v", got, err)
	}
	due, _, err := s.DueBatches(t.Context(), testModel, batch.ID{})
	if err != nil || len(due) != 1 || due[0].Batch != other {
		t.Errorf("due are %+v, %v; want what is of the other batch", due, err)
	}
	got, err := s.ClaimDue(t.Context(), testModel, []Quota{{Kind: DueRetry, Batch: id, N: 5}, {Kind: DueRetry, Batch: other, N: 5}}, nil)
	if err != nil || len(got) != 1 || got[0].ID.Batch != other {
		t.Errorf("of what is due claimed %+v, %v; want what is of the other batch", got, err)
	}
	if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Status != batch.StatusCancelled {
		t.Errorf("cancelled: %+v, %v", b, err)
	}
	check(t, s)
}
