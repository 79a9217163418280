package app

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
	"fusillade/streams"
)

// Postgres is away while calls run: what they gave is kept and written later,
// and nothing is called twice. A claim whose answer was lost waits for the
// claim timeout.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	const n = 600
	c := newCluster(t, mock.Settings{Latency: "uniform:5ms-20ms"})
	p, through := proxy.Postgres(t, c.DatabaseURL)
	c.set(&c.settings.Postgres.URL, through)
	c.settings.ClaimTimeout = ms(2000)
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	id := c.begin("r", n, "m", "n")
	for i := range 2 {
		c.awaitDone(id, int64(n/6*(2*i+1)))
		p.Outage(time.Second)
	}
	c.awaitEnd(id)
	c.calledAtMost(1)
}

// It is away for so long that daemons must take themselves for dead: their
// calls are cut off and made again by the daemons that follow.
func TestPostgresAwayForLong(t *testing.T) {
	t.Parallel()
	const n = 300
	c := newCluster(t, mock.Settings{Latency: "uniform:5ms-20ms"})
	p, through := proxy.Postgres(t, c.DatabaseURL)
	c.set(&c.settings.Postgres.URL, through)
	const stale = 6 * time.Second
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval, c.settings.ClaimTimeout = config.Milliseconds(stale), ms(500), ms(1000)
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	id := c.begin("r", n, "m", "n")
	c.awaitDone(id, n/4)
	before := c.consumers()
	p.Outage(stale)
	c.awaitEnd(id)
	testenv.Eventually(t, "each consumer has begun again as a new daemon", func() bool { return c.consumers() >= before+2 })
	c.calledAtMost(c.consumers())
}

// Every connection to Postgres is ended by the server, again and again.
func TestPostgresEndsConnections(t *testing.T) {
	t.Parallel()
	const n = 400
	c := newCluster(t, mock.Settings{Latency: "uniform:1ms-10ms"})
	c.settings.ClaimTimeout = ms(2000)
	c.start("standalone")
	id := c.begin("r", n, "m", "n")
	for i := range 8 {
		c.awaitDone(id, int64(n/10*(i+1)))
		_, err := c.DB.Exec(t.Context(), `
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			 WHERE datname = current_database() AND application_name = 'fusillade-standalone'`)
		if err != nil {
			t.Fatal(err)
		}
	}
	c.awaitEnd(id)
	c.calledAtMost(1)
}

// The broker restarts in the middle. What it had sent into a broken connection
// comes back after a lease.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	const n = 600
	c := newCluster(t, mock.Settings{Latency: "uniform:5ms-20ms"})
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(6_000), ms(500)
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	id := c.begin("r", n, "m", "n")
	for i := range 2 {
		c.awaitDone(id, int64(n/6*(2*i+1)))
		if err := c.Broker.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	c.awaitEnd(id)
	c.calledAtMost(c.consumers() - 1) // but what a daemon called that took itself for dead
}

// One consumer loses the broker for good while its calls go on: it takes itself
// for dead, and another makes them.
func TestConsumerIsCutOffTheBroker(t *testing.T) {
	t.Parallel()
	const n = 60
	c := newCluster(t, mock.Settings{Latency: "hang"})
	p, through := proxy.NATS(t, c.Broker.URL())
	c.settings.DefaultModelConcurrency = 8
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(6_000), ms(500)
	c.start("dispatcher")
	c.start("consumer", func(s *config.Standalone) { c.set(&s.NATS.URL, through) })
	id := c.begin("r", n, "m")
	testenv.Eventually(t, "calls are in flight", func() bool { return c.endpoint.Stats().InFlight == 8 })
	c.start("consumer")
	p.Cut()
	calls := c.endpoint.CustomIDs()
	testenv.Eventually(t, "the broker has offered its messages to the other", func() bool { return c.redelivered("m") > 0 || len(c.endpoint.CustomIDs()) > len(calls) })
	p.Restore()
	if err := c.endpoint.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(id)
	c.calledAtMost(c.consumers())
}

// consumers is how many consumers there have been; each calls a request once,
// unless the upstream has it retried.
func (c *cluster) consumers() (n int64) {
	c.T.Helper()
	err := c.DB.QueryRow(c.T.Context(), `SELECT count(*) FROM daemons WHERE role = 'consumer'`).Scan(&n)
	if err != nil {
		c.T.Fatal(err)
	}
	return n
}

func (c *cluster) redelivered(m batch.Model) int {
	c.T.Helper()
	consumer, err := c.JS.Consumer(c.T.Context(), streams.Stream, streams.ConsumerName(m))
	if err != nil {
		c.T.Fatal(err)
	}
	return consumer.CachedInfo().NumRedelivered
}

// The broker loses everything it has: Postgres rebuilds it.
func TestBrokerLosesItsStream(t *testing.T) {
	t.Parallel()
	const n = 300
	c := newCluster(t, mock.Settings{Latency: "uniform:5ms-20ms"})
	c.settings.ClaimTimeout = ms(1000)
	c.start("dispatcher")
	c.start("consumer")
	id := c.begin("r", n, "m", "n")
	c.awaitDone(id, n/4)
	if err := c.JS.DeleteStream(t.Context(), streams.Stream); err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(id)
	c.calledAtMost(1)
}
