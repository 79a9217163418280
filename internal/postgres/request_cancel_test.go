package postgres

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

func TestCancelRequests(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 6)
	deliveries := started(t, s, d, id, 3)
	finish(t, s, d, completed(deliveries[0]))
	cancel := func(lines ...int32) Lines {
		t.Helper()
		got, err := s.CancelRequests(t.Context(), id, lines)
		if err != nil {
			t.Fatal(err)
		}
		check(t, s)
		return got
	}
	want := Lines{Changed: []int32{2, 5}, Unchanged: []int32{1}}
	if diff := cmp.Diff(want, cancel(5, 2, 1, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The claim passes over the hole and takes no less for it.
	var lines []int32
	for _, delivery := range claimed(t, s, id, 2) {
		lines = append(lines, delivery.ID.Line)
	}
	if diff := cmp.Diff([]int32{4, 6}, lines); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	for _, unknown := range [][]int32{{7}, {0}, {-1}, {3, 99}} {
		_, err := s.CancelRequests(t.Context(), id, unknown)
		wantErr(t, err, batch.ErrNotFound)
	}
	_, err := s.CancelRequests(t.Context(), id, make([]int32, 0))
	wantErr(t, err, nil)
	_, err = s.CancelRequests(t.Context(), batch.ID{1}, []int32{1})
	wantErr(t, err, batch.ErrNotFound)
	many := make([]int32, MaxLines+1)
	for i := range many {
		many[i] = int32(i + 1)
	}
	_, err = s.CancelRequests(t.Context(), id, many)
	wantErr(t, err, batch.ErrTooMany)
	// The last ones end the batch, which completed as one of it did.
	cancel(3, 4, 6)
	if b, err := s.GetBatch(t.Context(), id, nil); err != nil || b.Status != batch.StatusCompleted || b.Counts.Canceled != 5 {
		t.Errorf("%+v, %v", b, err)
	}
	if diff := cmp.Diff(Lines{Unchanged: []int32{3}}, cancel(3), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("of a batch that has ended (-want +got):\n%s", diff)
	}
}

// The status of a batch whose requests all ended, by what they ended as.
func TestStatusOfTheLast(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	for _, test := range []struct {
		name string
		ends []batch.State
		want batch.Status
	}{
		{"completed", []batch.State{batch.Completed, batch.Failed, batch.Canceled}, batch.StatusCompleted},
		{"failed", []batch.State{batch.Canceled, batch.Failed}, batch.StatusFailed},
		{"canceled one by one", []batch.State{batch.Canceled, batch.Canceled}, batch.StatusCancelled},
		{"expired, then completed", []batch.State{batch.Expired, batch.Completed}, batch.StatusExpired},
		{"expired, then canceled", []batch.State{batch.Expired, batch.Canceled}, batch.StatusExpired},
		{"completed, then expired", []batch.State{batch.Completed, batch.Expired}, batch.StatusExpired},
	} {
		id := newBatch(t, s, len(test.ends))
		deliveries := started(t, s, d, id, len(test.ends))
		for i, as := range test.ends {
			switch as {
			case batch.Completed:
				finish(t, s, d, completed(deliveries[i]))
			case batch.Failed:
				finish(t, s, d, failed(deliveries[i]))
			case batch.Canceled:
				if _, err := s.CancelRequests(t.Context(), id, []int32{int32(i + 1)}); err != nil {
					t.Fatal(err)
				}
			case batch.Expired:
				if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: deliveries[i]}}); err != nil {
					t.Fatal(err)
				}
				expireNow(t, s, id)
			}
		}
		b, err := s.GetBatch(t.Context(), id, nil)
		if err != nil || b.Status != test.want || b.FinishedAt.IsZero() {
			t.Errorf("%s: %+v, %v, want %s", test.name, b, err, test.want)
		}
	}
	check(t, s)
}

// A claim that passes over holes reads no more than those.
func TestPlanOfAClaimPastRowsOutOfOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := batchOf(t, s, newLargeFile(t, s, 50_000))
	finish(t, s, d, endings(completed, started(t, s, d, id, 5000))...)
	if _, err := s.CancelRequests(t.Context(), id, []int32{5001, 5003, 40_000}); err != nil {
		t.Fatal(err)
	}
	sqlExec(t, s, `VACUUM ANALYZE`)
	plan := explain(t, s, ", ANALYZE, BUFFERS", claimSQL, string(testModel), [][16]byte{id}, []int32{50},
		[]string{string(testModel)}, []int64{0}, []int64{0})
	if scans := plan.wholeScans(); len(scans) > 0 || plan.touched() > 700 {
		t.Errorf("a claim of 50 reads %.0f rows: %v", plan.touched(), scans)
	}
}

// Lines are canceled one by one under claims that are under way: each line is
// claimed or canceled, and none is both.
func TestRowsOutOfOrderMeetClaims(t *testing.T) {
	t.Parallel()
	const lines = 300
	s := newStore(t)
	for range 10 {
		id := newBatch(t, s, lines)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 40 {
				line := 1 + rand.Int32N(lines)
				if _, err := s.CancelRequests(t.Context(), id, []int32{line, min(line+1, lines)}); err != nil {
					t.Error(err)
				}
			}
		}()
		claims := 0
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 3}})
			if err != nil {
				t.Fatal(err)
			}
			if claims += len(got); counts(t, s, id).Pending == 0 {
				break
			}
		}
		<-done
		if err := checker.Check(t.Context(), s.pool, id); err != nil {
			t.Error(err)
		}
		if n := sqlInt(t, s, `SELECT count(*) FROM results WHERE batch_id = $1 AND attempts = 0 AND claim = 0`, [16]byte(id)); n+int64(claims) != lines {
			t.Errorf("%d claimed and %d canceled before a claim, of %d", claims, n, lines)
		}
	}
}
