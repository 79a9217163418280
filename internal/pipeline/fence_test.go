package pipeline

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/config"
	"fusillade/internal/mock"
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
			var p *proxy
			c.start("dispatcher")
			c.start("consumer", func(s *config.Standalone) {
				var through string
				if off == "nats" {
					p, through = brokerProxy(t, c.broker.URL())
					c.set(&s.NATS.URL, through)
				} else {
					p, through = databaseProxy(t, c.databaseURL)
					c.set(&s.Postgres.URL, through)
				}
			})
			id := c.begin("r", n, "m")
			until(t, patience, "all are called", func() bool { return c.endpoint.Stats().InFlight == n })
			p.cut()
			until(t, patience, "the endpoint sees its clients gone", func() bool { return c.endpoint.Stats().InFlight == 0 })
			// By Postgres's clock, which decides. It was fenced an interval before.
			var left string
			err := c.db.QueryRow(t.Context(), `
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
			p.restore()
			c.awaitEnd(id, patience)
			c.calledAtMost(2)
		})
	}
}

// A consumer that dies in the middle of the same request again and again takes
// the request with it, and no other.
func TestPoisonedRequest(t *testing.T) {
	t.Parallel()
	const deaths = 2
	c := newCluster(t, mock.Settings{Latency: "hang"})
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval, c.settings.MaxDeliveries = ms(1500), ms(500), deaths
	c.start("dispatcher")
	id := c.begin("poison", 1, "m")
	var cut []*proxy
	for i := range int64(deaths) {
		// It is never heard of again, nor does it write anything.
		database, through := databaseProxy(t, c.databaseURL)
		broker, throughBroker := brokerProxy(t, c.broker.URL())
		c.start("consumer", func(s *config.Standalone) {
			c.set(&s.Postgres.URL, through)
			c.set(&s.NATS.URL, throughBroker)
		})
		until(t, patience, fmt.Sprintf("consumer %d calls it", i), func() bool { return c.endpoint.CustomIDs()["poison-0"] == i+1 })
		database.cut()
		broker.cut()
		cut = append(cut, database, broker)
	}
	c.start("consumer")
	until(t, patience, "the batch has ended", func() bool { return c.batch(id).Status.Final() })
	results, err := c.store.Results(t.Context(), id, 0, 10)
	if err != nil || len(results) != 1 {
		t.Fatal(results, err)
	}
	if r := results[0]; r.Reason != "poisoned" || r.Detail == "" {
		t.Errorf("the result is %+v, want it poisoned", r)
	}
	c.calledAtMost(deaths)
	for _, p := range cut {
		p.restore()
	}
	until(t, patience, "all are back as new daemons", func() bool {
		var n int
		if err := c.db.QueryRow(t.Context(), `SELECT count(*) FROM daemons WHERE role = 'consumer' AND status = 'running'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == deaths+1
	})
}

// A call that outlives the processing timeout is cut off, and the request is
// called again.
func TestProcessingTimeoutEndToEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "hang"})
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(1500), ms(500)
	c.settings.Timeout, c.settings.ProcessingTimeout = ms(60_000), ms(3_000)
	c.start("dispatcher")
	c.start("consumer")
	id := c.begin("r", 3, "m")
	until(t, patience, "all are called", func() bool { return c.endpoint.Stats().InFlight == 3 })
	began := time.Now()
	until(t, patience, "all are called again", func() bool {
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
	c.awaitEnd(id, patience)
}
