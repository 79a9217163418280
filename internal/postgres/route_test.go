package postgres

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

const escalated batch.Model = "the quick one"

// near and far are the routes of requests that name the model and of those
// that escalate to another, with an hour as the threshold.
var (
	near = Route{From: testModel, Below: time.Hour}
	far  = Route{AtLeast: time.Hour}
)

// expire sets what is left of a batch.
func expire(t testing.TB, s *Store, id batch.ID, left time.Duration) {
	t.Helper()
	sqlExec(t, s, `UPDATE batches SET expires_at = now() + $2::interval WHERE id = $1`, [16]byte(id), left)
}

func batchesOf(cursors []Cursor) (ids []batch.ID) {
	for _, c := range cursors {
		ids = append(ids, c.Batch)
	}
	return ids
}

// A batch comes to a model by the one route or the other, as its deadline is
// and not as it was.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	late, soon, past := newBatch(t, s, 4), newBatch(t, s, 4), newBatch(t, s, 4)
	expire(t, s, soon, 59*time.Minute)
	expire(t, s, past, -time.Minute)
	list := func(model batch.Model, via ...Route) []batch.ID {
		t.Helper()
		cursors, next, err := s.OpenCursors(t.Context(), model, via, "")
		if err != nil || next != "" {
			t.Fatalf("next is %q, %v", next, err)
		}
		for _, c := range cursors {
			if c.Remaining != 4 || !slices.Contains(via, c.Route) || c.Left.Round(time.Minute) != time.Until(c.ExpiresAt).Round(time.Minute) {
				t.Errorf("cursor is %+v", c)
			}
		}
		return batchesOf(cursors)
	}
	for name, tt := range map[string]struct{ got, want []batch.ID }{
		"of its own":     {list(testModel, far), []batch.ID{late}},
		"all of its own": {list(testModel, Route{}), []batch.ID{past, soon, late}},
		"escalated":      {list(escalated, near), []batch.ID{past, soon}},
		"no route":       {list(escalated), nil},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	claim := func(model batch.Model, via Route) (got []batch.ID) {
		t.Helper()
		requests, err := s.Claim(t.Context(), model, []Quota{{Fresh, late, 1, via}, {Fresh, soon, 1, via}, {Fresh, past, 1, via}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			if want := map[bool]batch.Model{true: testModel}[model == escalated]; r.From != want {
				t.Errorf("claimed from %q, want %q", r.From, want)
			}
			got = append(got, r.ID.Batch)
		}
		return got
	}
	if diff := cmp.Diff([]batch.ID{late}, claim(testModel, far)); diff != "" {
		t.Errorf("claimed of its own (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]batch.ID{soon, past}, claim(escalated, near)); diff != "" {
		t.Errorf("claimed by escalation (-want +got):\n%s", diff)
	}
	expire(t, s, late, 30*time.Minute)
	if diff := cmp.Diff([]batch.ID{late, soon, past}, claim(escalated, near)); diff != "" {
		t.Errorf("claimed after the deadline moved (-want +got):\n%s", diff)
	}
	if n := sqlInt(t, s, `SELECT count(*) FROM requests WHERE model = $1 AND routed_model = $2`, string(testModel), string(escalated)); n != 5 {
		t.Errorf("%d requests are routed to the escalation model, want 5", n)
	}
	check(t, s)
}

// A batch may have lines of a model and of the one it escalates to.
func TestBothModelsOfOneBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 6, testModel, escalated)
	expire(t, s, id, time.Minute)
	cursors, _, err := s.OpenCursors(t.Context(), escalated, []Route{{}, near}, "")
	if err != nil || len(cursors) != 2 {
		t.Fatalf("cursors %+v, %v", cursors, err)
	}
	got, err := s.Claim(t.Context(), escalated, []Quota{{Fresh, id, 2, near}, {Fresh, id, 2, Route{}}})
	if err != nil || !slices.Equal(linesOf(got), []int32{1, 3, 2, 4}) {
		t.Fatalf("claimed %v, %v", got, err)
	}
	check(t, s)
}

func TestNextOnRoutes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	next := func() (time.Duration, bool) {
		t.Helper()
		d, ok, err := s.NextOnRoutes(t.Context(), escalated, []Route{{}, near, {From: otherName, Below: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		return d.Round(time.Minute), ok
	}
	if d, ok := next(); ok {
		t.Errorf("%v with no batch", d)
	}
	a, b := newBatch(t, s, 1), newBatch(t, s, 1)
	expire(t, s, a, 30*time.Minute)
	if d, ok := next(); !ok || d != 23*time.Hour {
		t.Errorf("%v, %t; want 23h: a day less the threshold", d, ok)
	}
	expire(t, s, b, 90*time.Minute)
	if d, ok := next(); !ok || d != 30*time.Minute {
		t.Errorf("%v, %t; want 30m", d, ok)
	}
	claimed(t, s, b, 1)
	if d, ok := next(); ok {
		t.Errorf("%v, though all that is left is on a route", d)
	}
}

// What waits for a claim belongs where the escalations say, wherever it was
// routed before.
func TestReroute(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	late, soon := newBatch(t, s, 4), newBatch(t, s, 4)
	unclaimed(t, s, late, 4, 0)
	unclaimed(t, s, soon, 4, 0)
	expire(t, s, soon, time.Minute)
	rules := Escalations{testModel: {Model: escalated, Threshold: time.Hour}, escalated: {Model: testModel, Threshold: 48 * time.Hour}}
	reroute := func(model batch.Model, n int, e Escalations, want map[batch.Model]int) {
		t.Helper()
		got, err := s.Reroute(t.Context(), model, n, e)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rerouted (-want +got):\n%s", diff)
		}
		check(t, s)
	}
	due := func(model batch.Model, e Escalations) (ids []batch.ID) {
		t.Helper()
		got, err := s.claimAnyDue(t.Context(), model, 1, e)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			ids = append(ids, r.ID.Batch)
		}
		return ids
	}
	// Judged at the claim too, before anything was rerouted.
	if got := due(testModel, rules); !slices.Equal(got, []batch.ID{late}) {
		t.Errorf("claimed of %v, want the late batch %v", got, late)
	}
	reroute(escalated, 10, rules, map[batch.Model]int{})
	reroute(testModel, 3, rules, map[batch.Model]int{escalated: 3})
	reroute(testModel, 3, rules, map[batch.Model]int{escalated: 1})
	reroute(testModel, 3, rules, map[batch.Model]int{})
	// A cycle of escalations moves nothing back: each looks at what the file says.
	reroute(escalated, 10, rules, map[batch.Model]int{})
	if got := due(escalated, rules); !slices.Equal(got, []batch.ID{soon}) {
		t.Errorf("claimed of %v, want the soon batch %v", got, soon)
	}
	if got := due(escalated, nil); got != nil {
		t.Errorf("claimed of %v though there is no escalation any more", got)
	}
	reroute(escalated, 10, nil, map[batch.Model]int{testModel: 3})
	if got := due(testModel, nil); len(got) != 1 {
		t.Errorf("claimed of %v", got)
	}
}

// With more owners than one list takes, each has their turn, and the most urgent
// batch of all is in every list.
func TestOpenCursorsOfManyUsers(t *testing.T) {
	t.Parallel()
	const users = maxUsers*2 + 100
	s := newStore(t)
	file := newFile(t, s, templates(1, 1, testModel))
	sqlExec(t, s, `
INSERT INTO batches (id, file_id, endpoint, completion_window, created_by, expires_at, total)
SELECT gen_random_uuid(), $1, '/', '24h', 'user ' || n % $2, now() + n * interval '1 min' + interval '1 day', 1
  FROM generate_series(1, 3 * $2::int) n`, [16]byte(file), users)
	sqlExec(t, s, `INSERT INTO cursors (batch_id, model, file_id, total) SELECT id, $1, file_id, 1 FROM batches`, string(testModel))
	sqlExec(t, s, `INSERT INTO users (name, weight) VALUES ('user 7', 7)`)
	id := batchOf(t, s, file)
	sqlExec(t, s, `UPDATE batches SET created_by = 'zoe' WHERE id = $1`, [16]byte(id))
	sqlExec(t, s, `UPDATE cursors SET created_by = 'zoe' WHERE batch_id = $1`, [16]byte(id))
	expire(t, s, id, time.Minute)
	seen := make(map[string]int)
	from := ""
	for range 6 {
		cursors, next, err := s.OpenCursors(t.Context(), testModel, []Route{{}}, from)
		if err != nil {
			t.Fatal(err)
		}
		if next == "" || next == from {
			t.Fatalf("next is %q after %q, though there are more users", next, from)
		}
		if cursors[0].Batch != id {
			t.Errorf("the first of the list is %+v, want the most urgent one", cursors[0])
		}
		if n := len(cursors); n > 2*max(cursorsInAll, minCursors*maxUsers)+urgentCursors {
			t.Errorf("%d cursors are listed", n)
		}
		now := make(map[string]bool)
		ids := make(map[batch.ID]bool)
		for _, c := range cursors {
			now[c.CreatedBy] = true
			if ids[c.Batch] {
				t.Errorf("%s is listed twice", c.Batch)
			}
			ids[c.Batch] = true
			if want := map[bool]float64{true: 7, false: 1}[c.CreatedBy == "user 7"]; c.Weight != want {
				t.Errorf("the weight of %s is %v, want %v", c.CreatedBy, c.Weight, want)
			}
		}
		for name := range now {
			seen[name]++
		}
		from = next
	}
	for n := range users {
		if name := fmt.Sprintf("user %d", n); seen[name] < 2 {
			t.Errorf("%s is in %d of 6 lists", name, seen[name])
		}
	}
}

// What a list of cursors reads is bounded, however many batches are open.
func TestOpenCursorsDoNotGrow(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 1, testModel))
	measure := func(batches int) (rows, blocks float64) {
		sqlExec(t, s, `
WITH b AS (
    INSERT INTO batches (id, file_id, endpoint, completion_window, created_by, expires_at, total)
    SELECT gen_random_uuid(), $1, '/', '24h', 'user ' || n % 3, now() + n * interval '1 s', 1
      FROM generate_series(1, $2::int) n RETURNING id, file_id)
INSERT INTO cursors (batch_id, model, file_id, total) SELECT id, $3, file_id, 1 FROM b`, [16]byte(file), batches, string(testModel))
		sqlExec(t, s, `VACUUM ANALYZE`)
		args := []any{[]string{string(testModel)}, []int64{0}, []int64{int64(100 * time.Hour / time.Microsecond)}}
		for _, sql := range []statement{
			{"of users", userCursorsSQL, append(slices.Clone(args), "", maxUsers, minCursors, cursorsInAll, s.excluded)},
			{"urgent", urgentCursorsSQL, append(slices.Clone(args), urgentCursors, s.excluded)},
			{"next", nextOnRoutesSQL, args},
			{"models", waitingModelsSQL, nil},
		} {
			plan := explain(t, s, ", ANALYZE, BUFFERS", sql.sql, sql.args...)
			t.Logf("%d batches, %s: %.0f rows in %.0f blocks", batches, sql.name, plan.touched(), plan.Hit+plan.Read)
			rows, blocks = rows+plan.touched(), blocks+plan.Hit+plan.Read
		}
		return rows, blocks
	}
	rows, blocks := measure(5000)
	moreRows, moreBlocks := measure(45000)
	if moreRows > rows+50 || moreBlocks > 1.5*blocks+50 {
		t.Errorf("%.0f rows in %.0f blocks are read, and with ten times as many batches %.0f in %.0f", rows, blocks, moreRows, moreBlocks)
	}
}
