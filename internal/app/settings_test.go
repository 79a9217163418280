package app

import (
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
)

// What a dead daemon leaves is taken back UNCLAIM_BATCH_SIZE requests at a time,
// and fails as poisoned once MAX_TAKEOVERS daemons have died with it.
func TestSettingsOfTheDead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	c.settings.ReclaimBatchSize, c.settings.MaxTakeovers = 2, 1
	id := c.begin("r", 6, "m")
	claimed, err := c.store.Claim(t.Context(), "m", []postgres.Quota{{Batch: id, N: 6}})
	if err != nil || len(claimed) != 6 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	dead := postgres.NewDaemonID()
	if err := c.store.RegisterDaemon(t.Context(), postgres.Daemon{ID: dead, Role: "consumer", Hostname: "host", PID: 1, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	c.exec(`UPDATE requests SET state = 'processing', started_at = now(), delivery = 1, daemon_id = $1`, [16]byte(dead))
	if err := c.store.EndDaemon(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	c.exec(`INSERT INTO models (model, paused) VALUES ('m', true)`) // so that they stay as they were taken back
	c.start("dispatcher")
	until(t, patience, "all are taken back", func() bool {
		return c.number(`SELECT count(*) FROM requests WHERE state = 'pending' AND due_at IS NOT NULL`) == 6
	})
	if n := c.number(`SELECT count(DISTINCT due_at) FROM requests`); n != 3 {
		t.Errorf("they were taken back by %d statements, want 3 of 2 requests each", n)
	}
	c.exec(`UPDATE models SET paused = false`)
	c.start("consumer")
	until(t, patience, "the batch has ended", func() bool {
		b, err := c.store.GetBatch(t.Context(), id, nil)
		return err == nil && b.Status == batch.StatusFailed
	})
	if n := c.number(`SELECT count(*) FROM results WHERE state = 'failed' AND reason = 'poisoned'`); n != 6 {
		t.Errorf("%d requests failed as poisoned, want 6", n)
	}
}

func (c *cluster) exec(sql string, args ...any) {
	c.t.Helper()
	if _, err := c.db.Exec(c.t.Context(), sql, args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) number(sql string) (n int64) {
	c.t.Helper()
	if err := c.db.QueryRow(c.t.Context(), sql).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}
