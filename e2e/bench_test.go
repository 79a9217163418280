package e2e

import (
	"encoding/json"
	"testing"

	"fusillade/internal/mock"
)

// figures are what every benchmark measures.
type figures struct {
	Requests  int     `json:"requests"`
	PerSecond float64 `json:"requests_per_second"`
	BareRatio float64 `json:"bare_ratio"`
	PickupMS  struct {
		P50 float64 `json:"p50"`
	} `json:"pickup_ms"`
	WALBytes float64 `json:"wal_bytes_per_request"`
}

func (f figures) check(t *testing.T, requests int) {
	t.Helper()
	if f.Requests != requests || f.PerSecond <= 0 || f.BareRatio <= 0 || f.PickupMS.P50 <= 0 || f.WALBytes <= 0 {
		t.Errorf("it measured %+v", f)
	}
}

// TestBenchOfACluster measures daemons that run already, and leaves nothing behind.
func TestBenchOfACluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	c.start("dispatcher")
	c.start("consumer")
	var got figures
	out := c.run("bench", "--database-url", c.databaseURL, "--nats-url", c.natsURL, "--requests", "300", "--models", "2", "--pickups", "2", "--json")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got.check(t, 300)
	if n := c.mock.Stats().Calls; n != 0 {
		t.Errorf("the cluster's own endpoint got %d calls", n)
	}
	var files, batches, models int
	err := c.db.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM files WHERE deleted_at IS NULL),
		(SELECT count(*) FROM batches WHERE deleted_at IS NULL),
		(SELECT count(*) FROM models WHERE upstream_url IS NOT NULL OR concurrency_limit IS NOT NULL)`).Scan(&files, &batches, &models)
	if err != nil {
		t.Fatal(err)
	}
	if files+batches+models != 0 {
		t.Errorf("it left %d files, %d batches and the settings of %d models", files, batches, models)
	}
}
