package history

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// What is done while a leader leads is in the samples, for the owner and for all; what
// was done before its first look is in none.
func TestRecorder(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t)
	id := c.Begin(testcluster.Lines(10, testcluster.Model))
	progress := func(completed, tokens int) {
		c.Exec(`UPDATE batches SET completed = $1 WHERE id = $2`, completed, [16]byte(id))
		c.Exec(`INSERT INTO batch_usage (batch_id, model, input_tokens, output_tokens, cached_tokens, reasoning_tokens) VALUES ($1, 'm', $2, 0, 0, 0)
		        ON CONFLICT (batch_id, model) DO UPDATE SET input_tokens = excluded.input_tokens`, [16]byte(id), tokens)
	}
	sum := func(owner string) (sum postgres.Done) {
		t.Helper()
		c.Exec(`UPDATE samples SET minute = minute - interval '5 min'`)
		list, err := c.Store.LastHour(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			sum.Add(m.Done)
		}
		return sum
	}
	r := &Recorder{Store: c.Store, Log: testenv.Logger(t)}
	progress(2, 20)
	for _, leader := range []struct{ at, completed int }{{2, 5}, {6, 9}} {
		var tracker Tracker
		progress(leader.at, 10*leader.at)
		for _, completed := range []int{leader.at, leader.completed, leader.completed} {
			progress(completed, 10*completed)
			if err := r.record(t.Context(), &tracker); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Exec(`UPDATE batches SET completed = 0 WHERE id = $1`, [16]byte(id))
	c.Exec(`DELETE FROM batch_usage`)
	owner := c.Batch(id).CreatedBy
	for _, of := range []string{"", owner} {
		if got, want := sum(of), (postgres.Done{Completed: 6, InTokens: 60}); got != want {
			t.Errorf("%q has done %+v, want %+v", of, got, want)
		}
	}
	if got := sum("nobody"); got != (postgres.Done{}) {
		t.Errorf("nobody has done %+v", got)
	}
}

// A batch counts from its first look on, but one that was begun since from nothing on;
// a rerun takes nothing away.
func TestTracker(t *testing.T) {
	t.Parallel()
	began := time.Now()
	at := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }
	old, young := batch.ID{1}, batch.ID{2}
	var tracker Tracker
	look := func(n int, list ...postgres.BatchProgress) (out []string) {
		for _, c := range tracker.Add(at(n), list) {
			out = append(out, fmt.Sprintf("%t %d %d", c.Known, c.Done.Completed, c.Done.Unsuccessful))
		}
		return out
	}
	is := func(id batch.ID, created int, completed, unsuccessful int64) postgres.BatchProgress {
		return postgres.BatchProgress{ID: id, Owner: "alice", CreatedAt: at(created), Completed: completed, Unsuccessful: unsuccessful}
	}
	for _, step := range []struct{ got, want []string }{
		{look(0, is(old, -100, 7, 3)), []string{"false 0 0"}},
		{look(10, is(old, -100, 9, 3), is(young, 5, 4, 0)), []string{"true 2 0", "true 4 0"}},
		{look(20, is(old, -100, 9, 0)), []string{"true 0 0"}},
		{look(30, is(young, 5, 6, 0)), []string{"false 0 0"}},
	} {
		if diff := cmp.Diff(step.want, step.got); diff != "" {
			t.Error(diff)
		}
	}
}

// Of many owners those who did most have samples, and all together.
func TestManyOwners(t *testing.T) {
	t.Parallel()
	var changes []Change
	for i := range 2 * maxOwners {
		changes = append(changes, Change{BatchProgress: postgres.BatchProgress{Owner: fmt.Sprint(i)}, Done: postgres.Done{Completed: int64(i)}})
	}
	done := doneBy(changes)
	if len(done) != maxOwners || done[""].Completed != maxOwners*(2*maxOwners-1) || done[fmt.Sprint(2*maxOwners-1)].Completed == 0 || done["1"].Completed != 0 {
		t.Errorf("%d owners, all did %+v", len(done), done[""])
	}
}

// A leader that ends returns at once.
func TestEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	(&Recorder{Store: nil, Log: testenv.Logger(t)}).Run(ctx)
}
