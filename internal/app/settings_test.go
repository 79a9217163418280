package app

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// What a dead daemon leaves is taken back UNCLAIM_BATCH_SIZE requests at a time,
// and fails as poisoned once MAX_TAKEOVERS daemons have died with it.
func TestSettingsOfTheDead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	c.settings.ReclaimBatchSize, c.settings.MaxTakeovers = 2, 1
	id := c.begin("r", 6, "m")
	claimed, err := c.Store.Claim(t.Context(), "m", []postgres.Quota{{Batch: id, N: 6}})
	if err != nil || len(claimed) != 6 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	dead := postgres.NewDaemonID()
	if err := c.Store.RegisterDaemon(t.Context(), postgres.Daemon{ID: dead, Role: "consumer", Hostname: "host", PID: 1, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	c.Exec(`UPDATE requests SET state = 'processing', started_at = now(), delivery = 1, daemon_id = $1`, [16]byte(dead))
	if err := c.Store.EndDaemon(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	c.Exec(`INSERT INTO models (model, paused) VALUES ('m', true)`) // so that they stay as they were taken back
	c.start("dispatcher")
	testenv.Eventually(t, "all are taken back", func() bool {
		return c.Count(`SELECT count(*) FROM requests WHERE state = 'pending' AND due_at IS NOT NULL`) == 6
	})
	if n := c.Count(`SELECT count(DISTINCT due_at) FROM requests`); n != 3 {
		t.Errorf("they were taken back by %d statements, want 3 of 2 requests each", n)
	}
	c.Exec(`UPDATE models SET paused = false`)
	c.start("consumer")
	testenv.Eventually(t, "the batch has ended", func() bool {
		b, err := c.Store.GetBatch(t.Context(), id, nil)
		return err == nil && b.Status == batch.StatusFailed
	})
	if n := c.Count(`SELECT count(*) FROM results WHERE state = 'failed' AND reason = 'poisoned'`); n != 6 {
		t.Errorf("%d requests failed as poisoned, want 6", n)
	}
}

// Calls go through the proxy that is set, which alone knows where the endpoint is.
func TestCallsGoThroughTheProxy(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	var other atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "endpoint.invalid" {
			other.Store(true)
		}
		c.endpoint.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	c.set(&c.settings.Upstream.URL, "http://endpoint.invalid/v1")
	c.set(&c.settings.Upstream.Proxy, proxy.URL)
	id := c.begin("r", 3, "m")
	c.start("dispatcher")
	c.start("consumer")
	testenv.Eventually(t, "the batch is completed", func() bool {
		b, err := c.Store.GetBatch(t.Context(), id, nil)
		return err == nil && b.Status == batch.StatusCompleted
	})
	if other.Load() {
		t.Error("the proxy was asked for another endpoint")
	}
}

// Where no keys are asked for since a name seems to be this machine's, the address
// that it leads to must be.
func TestListenLeadsElsewhere(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		listen config.Address
		auth   config.Auth
		to     string
		want   bool
	}{
		{"localhost:80", "", "192.0.2.1:80", true},
		{"localhost:80", "", "[2001:db8::1]:80", true},
		{"localhost:80", "", "[::]:80", true},
		{"localhost:80", "", "127.0.0.2:80", false},
		{"localhost:80", "", "[::1]:80", false},
		{"localhost:80", "none", "192.0.2.1:80", false},
		{"localhost:80", config.AuthKeys, "192.0.2.1:80", false},
		{":80", "", "[::]:80", false}, // keys are asked for
	} {
		to, err := net.ResolveTCPAddr("tcp", test.to)
		if err != nil {
			t.Fatal(err)
		}
		if got := leadsElsewhere(&config.Server{Listen: test.listen, Auth: test.auth}, to); got != test.want {
			t.Errorf("LISTEN_ADDR %s, API_AUTH %q, at %s: %t, want %t", test.listen, test.auth, test.to, got, test.want)
		}
	}
}
