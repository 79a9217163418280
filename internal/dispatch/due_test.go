package dispatch

import (
	"slices"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

func by(owner string) func(*postgres.NewBatch) {
	return func(n *postgres.NewBatch) { n.CreatedBy = owner }
}

// order takes messages of the model until n of the batch were taken, and returns
// how many of others were taken with them.
func (c *cluster) order(id batch.ID, n int) (others int) {
	c.T.Helper()
	for n > 0 {
		until(c.T, "more is published", func() bool { return c.waiting(testModel) > 0 })
		for _, msg := range c.take(testModel, 3) {
			_, request, err := streams.ParseRequestSubject(msg.Subject())
			switch {
			case err != nil:
				c.T.Fatal(err)
			case request.Batch == id:
				n--
			case n > 0:
				others++
			}
		}
	}
	return others
}

// Who cancels and reruns, by lines or by states, gets no more than their share:
// a small batch of another owner does not wait for what was rerun.
func TestRerunPassesNobody(t *testing.T) {
	t.Parallel()
	const rerun, small = 1500, 20
	for name, again := range map[string]func(*cluster, batch.ID) (int, error){
		"lines": func(c *cluster, id batch.ID) (int, error) {
			all := make([]int32, rerun)
			for i := range all {
				all[i] = int32(i + 1)
			}
			out, err := c.Store.RerunLines(t.Context(), id, batch.Allowance{}, all)
			return len(out.Changed), err
		},
		"states": func(c *cluster, id batch.ID) (int, error) {
			return c.Store.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Canceled)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			alice := c.Begin(lines(rerun, testModel), by("alice"))
			if name == "states" { // so that there are rows to take back
				quota := []postgres.Quota{{Batch: alice, N: rerun}}
				if _, err := c.Store.Claim(t.Context(), testModel, quota); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Store.CancelBatch(t.Context(), alice); err != nil {
				t.Fatal(err)
			}
			if n, err := again(c, alice); err != nil || n != rerun {
				t.Fatalf("%d are rerun, %v", n, err)
			}
			if due := c.Count(`SELECT count(*) FROM requests WHERE due_at <= now()`); due != rerun {
				t.Fatalf("%d are due, want %d", due, rerun)
			}
			bob := c.Begin(lines(small, testModel), by("bob"))
			c.start()
			// As many as bob's go to alice, and what was published with them.
			if others := c.order(bob, small); others > 10*small {
				t.Errorf("%d requests that were rerun went before %d of another owner", others, small)
			}
		})
	}
}

// Neither owner's due requests go before the other's new ones, but before their
// own: a retry is done early, at its owner's expense.
func TestRetryGoesBeforeItsOwnersNewRequests(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first := c.Begin(lines(1000, testModel), by("alice"))
	retried := c.Begin(lines(10, testModel), by("alice"), func(n *postgres.NewBatch) { n.CompletionWindow = 48 * time.Hour })
	claimed, err := c.Store.Claim(t.Context(), testModel, []postgres.Quota{{Batch: retried, N: 10}})
	if err != nil || len(claimed) != 10 {
		t.Fatal(len(claimed), err)
	}
	if _, err := c.Store.ReleaseClaims(t.Context(), claimed, 0); err != nil {
		t.Fatal(err)
	}
	c.start()
	if others := c.order(retried, 10); others > 0 {
		t.Errorf("%d requests of %v went before those that were due", others, first)
	}
}

func TestSchedulerOrdersKinds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	soon, late := batch.ID{1}, batch.ID{2}
	of := func(kind postgres.Kind, id batch.ID, owner string) postgres.Cursor {
		return postgres.Cursor{Kind: kind, Batch: id, Remaining: 2, CreatedBy: owner, CreatedAt: now,
			ExpiresAt: now.Add(time.Duration(id[0]) * 100 * time.Hour), Left: time.Duration(id[0]) * 100 * time.Hour}
	}
	var s scheduler
	s.load([]postgres.Cursor{
		of(postgres.Fresh, soon, "alice"), of(postgres.DueRerun, late, "alice"), of(postgres.Fresh, late, "alice"),
		of(postgres.DueRerun, soon, "alice"), of(postgres.DueRetry, late, "alice"),
	}, 0)
	type entry struct {
		kind postgres.Kind
		id   batch.ID
	}
	var got []entry
	for !s.empty() {
		quotas, _ := s.take(1)
		if e := (entry{quotas[0].Kind, quotas[0].Batch}); len(got) == 0 || got[len(got)-1] != e {
			got = append(got, e)
		}
	}
	want := []entry{
		{postgres.DueRetry, late}, {postgres.DueRerun, soon}, {postgres.Fresh, soon}, {postgres.DueRerun, late}, {postgres.Fresh, late},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}

	// With another owner, each gets half, whatever of theirs is due.
	s.load([]postgres.Cursor{of(postgres.DueRetry, soon, "alice"), of(postgres.DueRerun, late, "alice"), of(postgres.Fresh, late, "bob")}, 0)
	bobs := 0
	for range 4 {
		quotas, _ := s.take(1)
		if quotas[0].Kind == postgres.Fresh {
			bobs++
		}
	}
	if bobs != 2 {
		t.Errorf("the other owner got %d of 4", bobs)
	}
}
