package dispatch

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// deadlines lets batches expire, grace after their deadline.
func deadlines(grace time.Duration) func(*Config) {
	return func(cfg *Config) {
		stop := -grace
		cfg.ExpiryInterval, cfg.StopBeforeDeadline = 20*time.Millisecond, &stop
	}
}

func quickPurge(cfg *Config) { cfg.Purge = Purge{Interval: 20 * time.Millisecond, Rows: 3} }

func (c *cluster) overdue(id batch.ID, by time.Duration) {
	c.Exec(`UPDATE batches SET expires_at = now() - $2::interval WHERE id = $1`, [16]byte(id), by)
}

func (c *cluster) get(id batch.ID) postgres.Batch {
	c.T.Helper()
	b, err := c.Store.GetBatch(c.T.Context(), id, nil)
	if err != nil {
		c.T.Fatal(err)
	}
	return b
}

// At the deadline what waits expires, in Postgres and in the stream.
func TestLeaderExpiresBatches(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(deadlines(0))
	c.checkEnds(batch.StatusExpired, func(c batch.Counts) int64 { return c.Expired }, func(id batch.ID) { c.overdue(id, time.Second) })
}

// checkEnds does what the leader ends a batch for, and looks at all that comes of it:
// consumers are told, and what waits is counted as such and leaves the stream, but
// nothing of another batch.
func (c *cluster) checkEnds(status batch.Status, counted func(batch.Counts) int64, end func(batch.ID)) {
	t := c.T
	t.Helper()
	id, other := c.Begin(lines(10, testModel)), c.Begin(lines(2, otherModel))
	c.queued(10)
	hints, err := c.Conn.SubscribeSync("fusillade.hints.cancel.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	end(id)
	if hint, err := hints.NextMsg(patience); err != nil || hint.Subject != streams.HintCancel(id) || len(hint.Data) != 0 {
		t.Errorf("the hint after it is %+v, %v", hint, err)
	}
	until(t, fmt.Sprintf("the batch is %s", status), func() bool { return c.get(id).Status == status })
	if b := c.get(id); counted(b.Counts) != 10 {
		t.Errorf("counts are %+v", b.Counts)
	}
	until(t, "its messages are gone", func() bool { return c.state().Msgs == 2 })
	if b := c.get(other); b.Status.Terminal() {
		t.Errorf("another batch is %s", b.Status)
	}
}

// A batch goes on within the grace after its deadline, and for ever without
// deadlines. What expires beside them shows that the leader has looked.
func TestLeaderLeavesBatchesInTheirGrace(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(deadlines(time.Hour))
	spared, expired := c.Begin(lines(3, testModel)), c.Begin(lines(3, testModel))
	c.overdue(spared, time.Minute)
	c.overdue(expired, 2*time.Hour)
	until(t, "the other batch has expired", func() bool { return c.get(expired).Status == batch.StatusExpired })
	if b := c.get(spared); b.Status.Terminal() {
		t.Errorf("the batch is %s", b.Status)
	}
}

// Everything of a deleted batch and file goes, from the tables and the stream,
// and nothing of others.
func TestLeaderPurges(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(quickPurge, deadlines(0))
	id, other := c.Begin(lines(10, testModel)), c.Begin(lines(2, otherModel))
	c.queued(10)
	file := c.get(id).File
	if _, err := c.Store.DeleteBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is left of the batch", func() bool { return checker.Erased(t.Context(), c.DB, id) == nil })
	until(t, "its messages are gone", func() bool { return c.state().Msgs == 2 })
	if n := c.Count(`SELECT count(*) FROM templates WHERE file_id = $1`, [16]byte(file)); n != 10 {
		t.Errorf("%d lines of a file that is not deleted", n)
	}
	if _, err := c.Store.DeleteFile(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is left of the file", func() bool {
		return c.Count(`SELECT (SELECT count(*) FROM templates WHERE file_id = $1) + (SELECT count(*) FROM files WHERE id = $1)`, [16]byte(file)) == 0
	})
	if b := c.get(other); b.Status.Terminal() || b.Counts.Total != 2 {
		t.Errorf("another batch: %+v", b)
	}
}

// More files and batches than are listed at a time.
func TestPurgeOfManyPages(t *testing.T) {
	t.Parallel()
	const n = 2*purgePage + 5
	c := newCluster(t)
	file := c.get(c.Begin(lines(1, testModel))).File
	for range n {
		id, _, err := c.Store.CreateBatch(t.Context(), postgres.NewBatch{File: file, CreatedBy: "tester", CompletionWindow: time.Hour, WindowText: "1h"})
		if err == nil {
			_, err = c.Store.DeleteBatch(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.start(quickPurge)
	until(t, "all are gone", func() bool { return c.Count(`SELECT count(*) FROM batches`) == 1 })
}
