package app

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
)

// A daemon that is cut off Postgres alone, or the broker alone, has aborted its
// calls before its last heartbeat is stale, and so before anybody may make them
// again.
func TestCutOffDaemonAbortsItsCallsInTime(t *testing.T) {
	t.Parallel()
	for _, off := range []string{"postgres", "nats"} {
		t.Run(off, func(t *testing.T) {
			t.Parallel()
			const n = 6
			c := newCluster(t, mock.Settings{Latency: "hang"})
			c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(9_000), ms(3_000)
			var p *proxy.Proxy
			c.start("dispatcher")
			c.start("consumer", func(s *config.Standalone) {
				var through string
				if off == "nats" {
					p, through = proxy.NATS(t, c.Broker.URL())
					c.set(&s.NATS.URL, through)
				} else {
					p, through = proxy.Postgres(t, c.DatabaseURL)
					c.set(&s.Postgres.URL, through)
				}
			})
			id := c.begin("r", n, "m")
			testenv.Eventually(t, "all are called", func() bool { return c.endpoint.Stats().InFlight == n })
			p.Cut()
			testenv.Eventually(t, "the endpoint sees its clients gone", func() bool { return c.endpoint.Stats().InFlight == 0 })
			// By Postgres's clock, which decides. It was fenced an interval before.
			var left string
			err := c.DB.QueryRow(t.Context(), `
				SELECT format('%s old, %s', now() - last_heartbeat, status) FROM daemons
				 WHERE role = 'consumer' AND (status = 'dead' OR last_heartbeat <= now() - interval '9 s')
				 UNION ALL SELECT '' ORDER BY 1 DESC LIMIT 1`).Scan(&left)
			if err != nil {
				t.Fatal(err)
			}
			if left != "" {
				t.Errorf("as the calls end, the daemon's heartbeat is %s", left)
			}
			c.calledAtMost(1)
			if err := c.endpoint.Configure(mock.Settings{}); err != nil {
				t.Fatal(err)
			}
			p.Restore()
			c.awaitEnd(id)
			c.calledAtMost(2)
		})
	}
}

// A call that outlives the processing timeout is cut off, and the request is
// called again.
func TestProcessingTimeoutEndToEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "hang"})
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(6_000), ms(500)
	c.settings.Timeout, c.settings.ProcessingTimeout = ms(60_000), ms(3_000)
	c.start("dispatcher")
	c.start("consumer")
	id := c.begin("r", 3, "m")
	testenv.Eventually(t, "all are called", func() bool { return c.endpoint.Stats().InFlight == 3 })
	began := time.Now()
	testenv.Eventually(t, "all are called again", func() bool {
		for i := range 3 {
			if c.endpoint.CustomIDs()[fmt.Sprintf("r-%d", i)] < 2 {
				return false
			}
		}
		return true
	})
	if time.Since(began) < time.Second {
		t.Error("they were cut off long before the timeout")
	}
	if err := c.endpoint.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(id)
}
