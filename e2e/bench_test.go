package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
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

// TestBenchHTTP2 measures calls by HTTP/2, with a certificate that it makes.
func TestBenchHTTP2(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	var got figures
	out := c.run("bench", "--http2", "--requests", "300", "--concurrency", "300", "--pickups", "2", "--data-dir", t.TempDir(), "--json")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got.check(t, 300)
}

// TestBenchFromFileToOutput takes a file the whole way, on a Postgres that it is given,
// and deletes all of it.
func TestBenchFromFileToOutput(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	curve := filepath.Join(t.TempDir(), "curve.csv")
	var got struct {
		Requests int `json:"requests"`
		Tenths   []struct {
			PerSecond float64 `json:"requests_per_second"`
			WALBytes  float64 `json:"wal_bytes_per_request"`
		} `json:"tenths"`
		OutputBytes int64   `json:"output_bytes"`
		DeletedRows int64   `json:"deleted_rows"`
		BesideRatio float64 `json:"beside_ratio"`
	}
	out := c.run("bench", "--file-to-output", "--requests", "300", "--data-dir", t.TempDir(), "--curve", curve, "--json")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got.Requests != 300 || len(got.Tenths) != 10 || got.OutputBytes == 0 || got.DeletedRows != 600 || got.BesideRatio <= 0 {
		t.Errorf("it measured %+v", got)
	}
	for i, tenth := range got.Tenths {
		if tenth.PerSecond <= 0 {
			t.Errorf("tenth %d: %+v", i+1, tenth)
		}
	}
	rows, err := os.ReadFile(curve)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(rows), "\n"); n != 11 {
		t.Errorf("the curve has %d lines, want a head and ten: %s", n, rows)
	}
}
