package config

// Settings is a binary's settings: a pointer to a struct of this package, or
// to one that embeds it.
type Settings interface {
	// check fills in what is derived from other settings and reports what
	// does not fit together.
	check(*problems)
	// required names the variables, without the prefix, that must be set.
	required() []string
}

// shared is what a binary needs in order to work with others.
var shared = []string{"DATABASE_URL", "NATS_URL"}

// Dispatcher is what cmd/dispatcher reads.
type Dispatcher struct {
	Daemon
	Encryption
	Webhooks
	Postgres
	NATS
	Shutdown
	Admin
	Logging
}

// Consumer is what cmd/consumer reads.
type Consumer struct {
	Daemon
	Work
	Upstream
	Encryption
	Postgres
	NATS
	Shutdown
	Admin
	Logging
}

// Standalone is what a process reads that does everything itself. It has
// every section there is, so it also says which variables are ours at all.
type Standalone struct {
	Daemon
	Work
	Upstream
	Encryption
	Webhooks
	Serving
	Postgres
	NATS
	Shutdown
	Admin
	Logging
}

// Dispatcher returns the sections that a dispatcher acts on. Here, in Consumer
// and in API sections are handed from this process's settings to its roles, and
// nowhere else.
func (c *Standalone) Dispatcher() Dispatcher {
	return Dispatcher{
		Daemon: c.Daemon, Encryption: c.Encryption, Webhooks: c.Webhooks,
		Postgres: c.Postgres, NATS: c.NATS, Shutdown: c.Shutdown, Admin: c.Admin, Logging: c.Logging,
	}
}

// Consumer returns the sections that a consumer acts on.
func (c *Standalone) Consumer() Consumer {
	return Consumer{
		Daemon: c.Daemon, Work: c.Work, Upstream: c.Upstream, Encryption: c.Encryption,
		Postgres: c.Postgres, NATS: c.NATS, Shutdown: c.Shutdown, Admin: c.Admin, Logging: c.Logging,
	}
}

// API returns the sections that the API acts on.
func (c *Standalone) API() API {
	return API{
		Serving: c.Serving, Encryption: c.Encryption,
		Postgres: c.Postgres, NATS: c.NATS, Shutdown: c.Shutdown, Admin: c.Admin, Logging: c.Logging,
	}
}

func (c *Dispatcher) required() []string { return shared }
func (c *Consumer) required() []string   { return shared }

// required is empty: without a URL, what has none is embedded.
func (c *Standalone) required() []string { return nil }

func (c *Dispatcher) check(p *problems) {
	c.Daemon.check(p)
	c.NATS.check(p)
}

func (c *Consumer) check(p *problems) {
	c.Daemon.check(p)
	c.NATS.check(p)
}

func (c *Standalone) check(p *problems) {
	c.Daemon.check(p)
	c.Serving.check(p)
	c.NATS.check(p)
	p.relate(!c.NATS.URL.IsSet() && c.NATS.StreamReplicas > 1, "STREAM_REPLICAS", "NATS_URL",
		"is %d, but without %s there is one server, in this process", c.NATS.StreamReplicas, prefixed("NATS_URL"))
}
