package config

// Settings is a role's settings: a pointer to a struct of this package, or to
// one that embeds it.
type Settings interface {
	// check fills in what is derived from other settings and reports what
	// does not fit together.
	check(*problems)
	// required names the variables, without the prefix, that must be set.
	required() []string
}

// shared is what a process needs in order to work with others.
var shared = []string{"DATABASE_URL", "NATS_URL"}

// Process is what every process of a cluster reads, whatever its role.
type Process struct {
	Encryption
	Postgres
	NATS
	Startup
	Shutdown
	Admin
	Logging
	Traces
}

func (c *Process) check(p *problems) {
	c.Postgres.check(p)
	c.NATS.check(p)
	c.Traces.check(p)
}

// Dispatcher is what cmd/dispatcher reads.
type Dispatcher struct {
	Daemon
	Webhooks
	Process
}

// Consumer is what cmd/consumer reads.
type Consumer struct {
	Daemon
	Capacity
	Upstream
	Process
}

// API is what cmd/api reads.
type API struct {
	Server
	Process
}

// Standalone is what a process reads that has every role. It has every section
// there is, so it also says which variables are ours at all.
type Standalone struct {
	Daemon
	Capacity
	Upstream
	Webhooks
	Server
	Process
}

// Dispatcher is the part for the role of a dispatcher. This and its like are
// the one place where sections are handed to roles; a test asks that none of
// them forgets a section.
func (c *Standalone) Dispatcher() *Dispatcher {
	return &Dispatcher{Daemon: c.Daemon, Webhooks: c.Webhooks, Process: c.Process}
}

// Consumer is the part for the role of a consumer.
func (c *Standalone) Consumer() *Consumer {
	return &Consumer{Daemon: c.Daemon, Capacity: c.Capacity, Upstream: c.Upstream, Process: c.Process}
}

// API is the part for the role of the API.
func (c *Standalone) API() *API { return &API{Server: c.Server, Process: c.Process} }

func (c *Dispatcher) required() []string { return shared }
func (c *Consumer) required() []string   { return shared }
func (c *API) required() []string        { return shared }

// required is empty: without a URL, what has none is embedded.
func (c *Standalone) required() []string { return nil }

func (c *Dispatcher) check(p *problems) {
	c.Daemon.check(p)
	c.Process.check(p)
}

func (c *Consumer) check(p *problems) {
	c.Daemon.check(p)
	c.Upstream.check(p)
	c.Process.check(p)
}

func (c *API) check(p *problems) {
	c.Server.check(p)
	c.Process.check(p)
}

func (c *Standalone) check(p *problems) {
	c.Daemon.check(p)
	c.Upstream.check(p)
	c.Server.check(p)
	c.Process.check(p)
	p.relate(!c.NATS.URL.IsSet() && c.NATS.StreamReplicas > 1, "STREAM_REPLICAS", "NATS_URL",
		"is %d, but without %s there is one server, in this process", c.NATS.StreamReplicas, prefixed("NATS_URL"))
}
