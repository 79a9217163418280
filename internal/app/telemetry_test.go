package app

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
)

// notReady returns the checks that fail, in order; none if the daemon is ready.
func (r *running) notReady(t *testing.T) (checks []string) {
	t.Helper()
	status, body := r.ask(t, "/readyz")
	var got struct {
		Status  string
		Reasons []struct{ Check, Error string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if (status == 200) != (len(got.Reasons) == 0) || (status == 200) != (got.Status == "ready") {
		t.Fatalf("%d %s", status, body)
	}
	for _, reason := range got.Reasons {
		checks = append(checks, reason.Check)
	}
	return checks
}

func (r *running) awaitReadiness(t *testing.T, what string, want ...string) {
	t.Helper()
	testenv.Eventually(t, what, func() bool { return cmp.Equal(r.notReady(t), want) })
}

// From the stop on a daemon is not ready, and can be asked until its calls have
// ended.
func TestNotReadyWhileDraining(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"consumer", "standalone"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, mock.Settings{Latency: "hang"})
			if role == "consumer" {
				c.start("dispatcher")
			}
			r := c.start(role, withAdmin)
			r.awaitReadiness(t, "the daemon is ready")
			id := c.begin("r", 2, "m")
			r.awaitSample(t, `fusillade_requests_in_flight{model="m"}`, 2)
			r.stop()
			if got, want := r.notReady(t), []string{"stop", "daemon"}; !cmp.Equal(got, want) {
				t.Errorf("while draining %v fail, want %v", got, want)
			}
			if status, body := r.ask(t, "/livez"); status != 200 {
				t.Errorf("/livez while draining: %d %s", status, body)
			}
			r.awaitSample(t, `fusillade_requests_in_flight{model="m"}`, 2)
			if err := c.endpoint.Configure(mock.Settings{}); err != nil {
				t.Fatal(err)
			}
			c.awaitEnd(id)
			testenv.Eventually(t, "nobody answers any more", func() bool { status, _ := r.ask(t, "/livez"); return status == 0 })
		})
	}
}

func TestReadinessThroughOutages(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	database, databaseURL := proxy.Postgres(t, c.DatabaseURL)
	broker, brokerURL := proxy.NATS(t, c.Broker.URL())
	r := c.start("dispatcher", withAdmin, func(s *config.Standalone) {
		c.set(&s.Postgres.URL, databaseURL)
		c.set(&s.NATS.URL, brokerURL)
		s.HeartbeatInterval = ms(200)
	})
	for what, p := range map[string]*proxy.Proxy{"postgres": database, "nats": broker} {
		r.awaitReadiness(t, "the daemon is ready")
		const beats = "fusillade_heartbeat_duration_seconds_count"
		r.awaitSample(t, beats, r.scrape(t)[beats]+2) // one that has just begun would begin anew
		before := r.scrape(t)["fusillade_heartbeat_failures_total"]
		p.Cut()
		r.awaitReadiness(t, what+" is missed", what)
		r.awaitSample(t, "fusillade_heartbeat_failures_total", before+1)
		if status, body := r.ask(t, "/livez"); status != 200 {
			t.Errorf("/livez without %s: %d %s", what, status, body)
		}
		if _, body := r.ask(t, "/readyz"); strings.Contains(body, "PGSQL") || strings.Contains(body, "127.0.0.1") {
			t.Errorf("/readyz names a server: %s", body)
		}
		p.Restore()
	}
	r.awaitReadiness(t, "the daemon is ready again")
}

func TestAdminAddrInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := Resources{Log: testenv.Logger(t)}
	_, err = r.ServeAdmin(t.Context(), config.Admin{Addr: config.Address(listener.Addr().String())}, false, true)
	if err == nil || !strings.Contains(err.Error(), "FUSILLADE_ADMIN_ADDR is "+listener.Addr().String()) {
		t.Errorf("error %v", err)
	}
}

// Without an address nothing is served, and nothing is registered.
func TestNoAdminAddr(t *testing.T) {
	t.Parallel()
	r := Resources{Log: testenv.Logger(t)}
	stop, err := r.ServeAdmin(t.Context(), config.Admin{}, false, true)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if r.AdminAddr != "" || r.Telemetry.metrics() != nil {
		t.Errorf("serves at %q", r.AdminAddr)
	}
	if work := r.Telemetry.observe(nil); work != nil {
		t.Error("work is observed by nobody")
	}
}
