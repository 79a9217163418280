package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func linesOf(requests []ClaimedRequest) []int32 {
	out := make([]int32, len(requests))
	for i, r := range requests {
		out[i] = r.ID.Line
	}
	return out
}

// openCursors lists those of requests that name the model.
func openCursors(t testing.TB, s *Store, model batch.Model) ([]Cursor, error) {
	t.Helper()
	cursors, _, err := s.OpenCursors(t.Context(), model, []Route{{}}, "")
	return cursors, err
}

func TestOpenCursorsInOrderOfUrgency(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 10, testModel, otherName))
	names := make(map[batch.ID]string)
	for _, b := range []struct{ name, expires, created string }{
		{"late", "2100-01-03", "2026-01-01"},
		{"soon and young", "2100-01-01", "2026-01-02"},
		{"soon and old", "2100-01-01", "2026-01-01"},
		{"soon, old and of a higher id", "2100-01-01", "2026-01-01"},
		{"past", "2020-01-01", "2019-12-31"},
	} {
		id := batchOf(t, s, file)
		names[id] = b.name
		sqlExec(t, s, `UPDATE batches SET expires_at = $2::text::timestamptz, created_at = $3::text::timestamptz WHERE id = $1`,
			[16]byte(id), b.expires, b.created)
	}
	cursors, err := openCursors(t, s, testModel)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range cursors {
		got = append(got, names[c.Batch])
	}
	want := []string{"past", "soon and old", "soon, old and of a higher id", "soon and young", "late"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if c := cursors[0]; c.Remaining != 5 || c.CreatedBy != creator || c.ExpiresAt.Year() != 2020 || c.CreatedAt.Year() != 2019 {
		t.Errorf("%+v", c)
	}
}

func TestClaimTakesLinesInOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 10, testModel, otherName) // odd lines, even lines
	claim := func(model batch.Model, n int) []int32 {
		t.Helper()
		got, err := s.Claim(t.Context(), model, []Quota{{Batch: id, N: n}})
		if err != nil {
			t.Fatal(err)
		}
		check(t, s)
		return linesOf(got)
	}
	for _, test := range []struct {
		model batch.Model
		n     int
		want  []int32
	}{
		{testModel, 2, []int32{1, 3}},
		{otherName, 1, []int32{2}},
		{testModel, 0, []int32{}},
		{testModel, 100, []int32{5, 7, 9}},
		{testModel, 100, []int32{}},
		{"unknown", 100, []int32{}},
		{otherName, 4, []int32{4, 6, 8, 10}},
		{otherName, 4, []int32{}},
	} {
		if diff := cmp.Diff(test.want, claim(test.model, test.n)); diff != "" {
			t.Errorf("%d of %s (-want +got):\n%s", test.n, test.model, diff)
		}
	}
	models, err := s.WaitingModels(t.Context())
	if err != nil || len(models) != 0 {
		t.Errorf("models %v wait, %v", models, err)
	}
}

func TestClaimTakesOnlyLinesOfItsFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	short := newFile(t, s, templates(5, 3, testModel))
	long := newFile(t, s, templates(1, 20, testModel))
	for file, want := range map[batch.FileID][]int32{short: {5, 6, 7}, long: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}} {
		got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: batchOf(t, s, file), N: 10}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, linesOf(got)); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	}
	check(t, s)
}

// What another dispatcher is claiming is passed over, not waited for.
func TestClaimsDoNotWait(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	busy, free := newBatch(t, s, 5), newBatch(t, s, 5)
	unclaimed(t, s, busy, 2, 0)
	unclaimed(t, s, free, 2, 0)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"cursors", "requests"} {
		if _, err := tx.Exec(t.Context(), `SELECT FROM `+table+` WHERE batch_id = $1 FOR UPDATE`, [16]byte(busy)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: busy, N: 5}, {Batch: free, N: 5}})
	if err != nil || !slices.Equal(linesOf(got), []int32{3, 4, 5}) || got[0].ID.Batch != free {
		t.Errorf("claimed %v, %v", got, err)
	}
	got, err = s.claimAnyDue(t.Context(), testModel, 5, nil)
	if err != nil || !slices.Equal(linesOf(got), []int32{1, 2}) || got[0].ID.Batch != free {
		t.Errorf("claimed of what is due %v, %v", got, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, s)
}

// The caller gives the most urgent batch first, and publishes in the order of
// what it gets.
func TestClaimKeepsTheOrderOfQuotas(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old, urgent := newBatch(t, s, 5), newBatch(t, s, 5)
	got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: urgent, N: 2}, {Batch: batch.ID{9}, N: 1}, {Batch: old, N: 2}})
	if err != nil {
		t.Fatal(err)
	}
	want := []ClaimedRequest{
		{ID: batch.RequestID{Batch: urgent, Line: 1}, Claim: 1}, {ID: batch.RequestID{Batch: urgent, Line: 2}, Claim: 1},
		{ID: batch.RequestID{Batch: old, Line: 1}, Claim: 1}, {ID: batch.RequestID{Batch: old, Line: 2}, Claim: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
}

func TestClosedBatchesAreNotClaimed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	finished := newBatch(t, s, 2)
	finish(t, s, d, endings(completed, started(t, s, d, finished, 2))...)
	cancelled := newBatch(t, s, 5)
	expired := newBatch(t, s, 5)
	closed := newBatch(t, s, 5)
	end := func(id batch.ID, status batch.Status) {
		sqlExec(t, s, `UPDATE batches SET status = $2, finished_at = now(), canceled = 5 WHERE id = $1`, [16]byte(id), string(status))
	}
	end(cancelled, batch.StatusCancelled)
	end(expired, batch.StatusExpired)
	sqlExec(t, s, `UPDATE cursors SET open = false, skipped = 5 WHERE batch_id = $1`, [16]byte(closed))

	got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: finished, N: 5}, {Batch: cancelled, N: 5}, {Batch: expired, N: 5}, {Batch: closed, N: 5}})
	if err != nil || len(got) != 0 {
		t.Errorf("claimed %v, %v", got, err)
	}
	cursors, err := openCursors(t, s, testModel)
	if err != nil || len(cursors) != 0 {
		t.Errorf("cursors %v, %v", cursors, err)
	}
	models, err := s.WaitingModels(t.Context())
	if err != nil || len(models) != 0 {
		t.Errorf("models %v wait, %v", models, err)
	}
}

// Whatever the claimers' luck, each line comes out once.
func TestConcurrentClaims(t *testing.T) {
	t.Parallel()
	for _, batches := range []int{1, 5} {
		t.Run(fmt.Sprintf("%d batches", batches), func(t *testing.T) {
			t.Parallel()
			const lines, claimers = 400, 8
			s := newStore(t)
			file := newFile(t, s, templates(1, lines, testModel))
			ids := make([]batch.ID, batches)
			for i := range ids {
				ids[i] = batchOf(t, s, file)
			}
			var mu sync.Mutex
			taken := make(map[batch.RequestID]int)
			var wg sync.WaitGroup
			for range claimers {
				wg.Go(func() {
					for {
						mu.Lock()
						left := batches*lines - len(taken)
						mu.Unlock()
						if left == 0 || t.Failed() {
							return
						}
						quotas := make([]Quota, batches)
						for i, id := range ids {
							quotas[i] = Quota{Batch: id, N: 1 + rand.IntN(20)}
						}
						rand.Shuffle(batches, func(i, j int) { quotas[i], quotas[j] = quotas[j], quotas[i] })
						got, err := s.Claim(t.Context(), testModel, quotas)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						for _, r := range got {
							taken[r.ID]++
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			for id, n := range taken {
				if n != 1 {
					t.Errorf("%s came out %d times", id, n)
				}
			}
			check(t, s)
		})
	}
}

// released claims n requests and gives them back, due after the delay.
func unclaimed(t testing.TB, s *Store, id batch.ID, n int, delay time.Duration) []ClaimedRequest {
	t.Helper()
	got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: n}})
	if err != nil {
		t.Fatal(err)
	}
	if returned, err := s.ReleaseClaims(t.Context(), got, delay); err != nil || returned != n {
		t.Fatalf("%d released, %v, want %d", returned, err, n)
	}
	return got
}

func TestClaimDueByTheTimeItIsDue(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 6)
	unclaimed(t, s, id, 6, 0)
	// Line 6 is due first; line 2 is not due yet; line 1 goes to another model.
	sqlExec(t, s, `UPDATE requests SET due_at = now() - line * interval '1 s'`)
	sqlExec(t, s, `UPDATE requests SET due_at = now() + interval '1 min' WHERE line = 2`)
	sqlExec(t, s, `UPDATE requests SET routed_model = $1 WHERE line = 1`, string(otherName))

	models, err := s.WaitingModels(t.Context())
	slices.Sort(models)
	if err != nil || !slices.Equal(models, []batch.Model{testModel, otherName}) {
		t.Errorf("models %v wait, %v", models, err)
	}
	var got []ClaimedRequest
	for _, n := range []int{1, 2, 100, 100} {
		more, err := s.claimAnyDue(t.Context(), testModel, n, nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, more...)
	}
	if diff := cmp.Diff([]int32{6, 5, 4, 3}, linesOf(got)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for _, r := range got {
		if r.Claim != 2 || r.Delivery != 0 || r.Attempt != 0 {
			t.Errorf("%+v, want claim 2, delivery 0, attempt 0", r)
		}
	}
	if got, err := s.claimAnyDue(t.Context(), otherName, 5, Escalations{testModel: {Model: otherName, Threshold: 48 * time.Hour}}); err != nil || !slices.Equal(linesOf(got), []int32{1}) {
		t.Errorf("other model: %v, %v", got, err)
	}
	check(t, s)
}

func TestConcurrentClaimsOfDueRequests(t *testing.T) {
	t.Parallel()
	const lines, claimers = 300, 8
	s := newStore(t)
	unclaimed(t, s, newBatch(t, s, lines), lines, 0)
	var mu sync.Mutex
	taken := make(map[int32]int)
	var wg sync.WaitGroup
	for range claimers {
		wg.Go(func() {
			for {
				got, err := s.claimAnyDue(t.Context(), testModel, 7, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, r := range got {
					taken[r.ID.Line]++
				}
				done := len(taken) == lines
				mu.Unlock()
				if done {
					return
				}
			}
		})
	}
	wg.Wait()
	for line, n := range taken {
		if n != 1 {
			t.Errorf("line %d came out %d times", line, n)
		}
	}
	check(t, s)
}

func TestReleaseOfClaimsIsFenced(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 10)
	claim := func() ClaimedRequest {
		got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 1}})
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		return got[0]
	}
	release := func(r ClaimedRequest) int {
		n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{r}, 0)
		if err != nil {
			t.Fatal(err)
		}
		check(t, s)
		return n
	}
	r := claim()
	for name, stale := range map[string]ClaimedRequest{
		"another claim":    {ID: r.ID, Claim: r.Claim + 1},
		"another delivery": {ID: r.ID, Claim: r.Claim, Delivery: 1},
		"another line":     {ID: batch.RequestID{Batch: id, Line: 9}, Claim: r.Claim},
		"another batch":    {ID: batch.RequestID{Batch: batch.ID{1}, Line: r.ID.Line}, Claim: r.Claim},
	} {
		if release(stale) != 0 {
			t.Errorf("%s: it was released", name)
		}
	}
	start(t, s, rules(d), delivered([]ClaimedRequest{r}, 1)...)
	if release(r) != 0 {
		t.Error("a started request was released")
	}
	overdue := r
	overdue.Delivery = 1 // as the sweep reads it
	if release(overdue) != 1 {
		t.Error("an overdue request was not released")
	}
	if finish(t, s, d, completed(Delivery{ID: r.ID, Claim: 1, Number: 1})) != 0 {
		t.Error("a result was written after the release")
	}
	again, err := s.claimAnyDue(t.Context(), testModel, 1, nil)
	if err != nil || len(again) != 1 || again[0].Claim != 2 {
		t.Fatalf("claimed again: %v, %v", again, err)
	}
	if release(overdue) != 0 {
		t.Error("a request was released that has been claimed anew")
	}
}

// A publish that is reported as failed may have been stored. The request is
// released all the same, and its message then reaches a consumer together
// with others.
func TestMessageOfAnUnclaimedRequestIsStale(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 3)
	deliveries := claimed(t, s, id, 3)
	if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{{ID: deliveries[1].ID, Claim: 1}}, 0); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	want := []Verdict{Started, Stale, Started}
	for i, st := range start(t, s, rules(d), deliveries...) {
		if st.Verdict != want[i] {
			t.Errorf("line %d: verdict %d, want %d", i+1, st.Verdict, want[i])
		}
	}
	check(t, s)
	again, err := s.claimAnyDue(t.Context(), testModel, 3, nil)
	if err != nil || !slices.Equal(linesOf(again), []int32{2}) {
		t.Errorf("due: %v, %v", again, err)
	}
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	live, quiet, ended := newDaemon(t, s), newDaemon(t, s), newDaemon(t, s)
	id := newBatch(t, s, 12)
	deliveries := claimed(t, s, id, 11)
	age := func(column string, line int32, by string) {
		sqlExec(t, s, `UPDATE requests SET `+column+` = now() - $2::interval WHERE line = $1`, line, by)
	}
	start(t, s, rules(live), deliveries[2:5]...)        // lines 3 to 5
	start(t, s, rules(quiet), deliveries[5])            // 6
	start(t, s, rules(ended), deliveries[6])            // 7
	start(t, s, rules(batch.DaemonID{}), deliveries[7]) // 8: nobody knows the daemon
	start(t, s, rules(live), deliveries[8:11]...)       // 9 to 11
	if _, err := s.Finish(t.Context(), live, nil, []Release{
		{Delivery: deliveries[8], Retry: true}, {Delivery: deliveries[9], Retry: true},
	}); err != nil {
		t.Fatal(err)
	}
	sqlExec(t, s, `UPDATE requests SET claimed_at = now() - interval '61 s' WHERE line > 1`) // line 1 is young
	age("started_at", 4, "59 min")
	age("started_at", 5, "61 min")
	silence(t, s, quiet)
	if err := s.EndDaemon(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	age("not_before", 9, "59 s")
	age("not_before", 10, "61 s")
	if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{{ID: deliveries[10].ID, Claim: 1, Delivery: 1}}, 0); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}

	limits := OverdueAfter{Claim: time.Minute, Processing: time.Hour, Heartbeat: time.Minute}
	var got []int32
	after := batch.RequestID{}
	for range 10 {
		page, err := s.Overdue(t.Context(), limits, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			got, after = append(got, o.ID.Line), o.ID
			if o.Model != testModel || o.Claim != 1 {
				t.Errorf("%+v", o)
			}
		}
	}
	if diff := cmp.Diff([]int32{2, 5, 6, 7, 8, 10}, got); diff != "" {
		t.Errorf("overdue lines (-want +got):\n%s", diff)
	}
}

// What is excluded is not claimed, neither anew nor again, and the others' order
// and number are as without it.
func TestExcludedBatchesAreNotClaimed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 6, testModel))
	excluded, free := batchOf(t, s, file), batchOf(t, s, file)
	for _, id := range []batch.ID{excluded, free} { // one request of each is due
		claimed, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.ReleaseClaims(t.Context(), claimed, 0); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	rest := s.Excluding([]batch.ID{excluded})
	only := func(what string, ids []batch.ID, want ...batch.ID) {
		t.Helper()
		if !slices.Equal(ids, want) {
			t.Errorf("%s: %v, want %v", what, ids, want)
		}
	}
	listed := func(s *Store, from string) (ids []batch.ID) {
		t.Helper()
		cursors, _, err := s.OpenCursors(t.Context(), testModel, []Route{{}}, from)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cursors {
			ids = append(ids, c.Batch)
		}
		return ids
	}
	due := func(s *Store) (ids []batch.ID) {
		t.Helper()
		claimed, err := s.claimAnyDue(t.Context(), testModel, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range claimed {
			ids = append(ids, c.ID.Batch)
		}
		return ids
	}
	only("cursors", listed(rest, ""), free)
	only("cursors, of the most urgent too", listed(rest, creator), free)
	only("due", due(rest), free)
	only("cursors of the store itself", listed(s, ""), excluded, free)
	only("due of the store itself", due(s), excluded)
	// Nor is it rerun.
	if _, err := s.CancelBatch(t.Context(), excluded); err != nil {
		t.Fatal(err)
	}
	if _, err := rest.RerunRequests(t.Context(), excluded, batch.Allowance{}, batch.Canceled); !errors.Is(err, batch.ErrOtherEndpoint) {
		t.Errorf("a rerun of it = %v", err)
	}
	if _, err := rest.RerunLines(t.Context(), excluded, batch.Allowance{}, []int32{1}); !errors.Is(err, batch.ErrOtherEndpoint) {
		t.Errorf("a rerun of a line of it = %v", err)
	}
	if n, err := s.RerunRequests(t.Context(), excluded, batch.Allowance{}, batch.Canceled); n != 6 || err != nil {
		t.Errorf("a rerun by the store itself: %d requests, %v", n, err)
	}
	check(t, s)
}
