package config

// Capacity is how much one consumer takes on.
type Capacity struct {
	MaxInFlight  int `envconfig:"FUSILLADE_MAX_IN_FLIGHT" default:"1000" min:"1" max:"1000000" unit:"calls" desc:"most calls in flight in one consumer, over all models"`
	MaxTakeovers int `envconfig:"FUSILLADE_MAX_TAKEOVERS" was:"FUSILLADE_MAX_DELIVERIES" default:"5" min:"1" max:"1000" unit:"times" desc:"a request that has taken down its consumer this often fails as poisoned"`
}

// Encryption is how secrets are kept in the database.
type Encryption struct {
	Key EncryptionKeys `envconfig:"FUSILLADE_ENCRYPTION_KEY" allowed:"32 bytes as 64 hexadecimal digits or as base64, or several with commas between" desc:"key that encrypts API keys of models and batches and secrets of webhooks in the database, 32 bytes in hex or base64; the same for all processes; of several, as in a rotation, the first encrypts and all decrypt; unset: they are refused"`
}

// Webhooks is how events are delivered.
type Webhooks struct {
	AllowPrivate bool `envconfig:"FUSILLADE_WEBHOOK_ALLOW_PRIVATE" default:"false" allowed:"true or false" desc:"true: webhooks may be delivered to private, loopback and link-local addresses"`
}

// Postgres is the database.
type Postgres struct {
	URL       DatabaseURL `envconfig:"FUSILLADE_DATABASE_URL" derived:"embedded" allowed:"a URL such as postgres://user@host:5432/database, with special characters in the password percent-encoded" desc:"Postgres database"`
	DirectURL DatabaseURL `envconfig:"FUSILLADE_DATABASE_DIRECT_URL" derived:"DATABASE_URL" allowed:"a URL such as postgres://user@host:5432/database, with special characters in the password percent-encoded" desc:"the same database without a pooler, where DATABASE_URL leads through one; for leadership and migrations"`
	MaxConns  int         `envconfig:"FUSILLADE_DATABASE_MAX_CONNS" default:"10" min:"2" max:"10000" unit:"connections" desc:"most connections of one process to Postgres"`
}

// Direct is the URL of what needs sessions of its own, such as migrations.
func (c *Postgres) Direct() string {
	if c.DirectURL.IsSet() {
		return c.DirectURL.Reveal()
	}
	return c.URL.Reveal()
}

func (c *Postgres) check(p *problems) {
	p.relate(c.DirectURL.IsSet() && !c.URL.IsSet(), "DATABASE_DIRECT_URL", "DATABASE_URL",
		"needs %s, the database as all else reaches it", prefixed("DATABASE_URL"))
}

// NATS is the broker. Its credentials have the names that the nats command
// line has for them; each is the path of a file.
type NATS struct {
	URL            NATSServers `envconfig:"FUSILLADE_NATS_URL" alias:"NATS_URL" derived:"embedded" allowed:"servers such as nats://host:4222, with scheme nats, tls, ws or wss, separated by commas" desc:"NATS servers, separated by commas"`
	Creds          FilePath    `envconfig:"FUSILLADE_NATS_CREDS" alias:"NATS_CREDS" allowed:"a file that can be read" desc:"file with a user's JWT and seed"`
	NKey           FilePath    `envconfig:"FUSILLADE_NATS_NKEY" alias:"NATS_NKEY" allowed:"a file that can be read" desc:"file with a user's seed"`
	Cert           FilePath    `envconfig:"FUSILLADE_NATS_CERT" alias:"NATS_CERT" allowed:"a file that can be read" desc:"file with the TLS client certificate, PEM"`
	Key            FilePath    `envconfig:"FUSILLADE_NATS_KEY" alias:"NATS_KEY" allowed:"a file that can be read" desc:"file with the TLS client key, PEM"`
	CA             FilePath    `envconfig:"FUSILLADE_NATS_CA" alias:"NATS_CA" allowed:"a file that can be read" desc:"file with the TLS certificate authorities, PEM"`
	StreamShards   int         `envconfig:"FUSILLADE_STREAM_SHARDS" default:"8" min:"1" max:"64" unit:"streams" desc:"streams that share the models' messages, the same for all processes; one carries some 200 models with work at once, eight carry thousands"`
	StreamReplicas int         `envconfig:"FUSILLADE_STREAM_REPLICAS" default:"1" min:"1" max:"5" unit:"servers" desc:"NATS servers that hold a copy of each stream and bucket"`
	PlacementTags  Tags        `envconfig:"FUSILLADE_STREAM_PLACEMENT_TAGS" allowed:"tags such as az:1,ssd, separated by commas" desc:"tags that a NATS server must have, by server_tags of its configuration, to hold a copy of a stream or bucket; empty: any server may"`
}

func (c *NATS) check(p *problems) {
	p.relate(c.Creds != "" && c.NKey != "", "NATS_CREDS", "NATS_NKEY",
		"and %s are both set: use one", prefixed("NATS_NKEY"))
	p.relate(c.Cert != "" && c.Key == "", "NATS_CERT", "NATS_KEY",
		"needs %s, the key of the certificate", prefixed("NATS_KEY"))
	p.relate(c.Key != "" && c.Cert == "", "NATS_KEY", "NATS_CERT",
		"needs %s, the certificate of the key", prefixed("NATS_CERT"))
}

// Startup is how a process begins.
type Startup struct {
	Timeout OptionalMilliseconds `envconfig:"FUSILLADE_STARTUP_TIMEOUT_MS" default:"none" min:"1000" unit:"ms" desc:"how long a process waits at its start for Postgres, migrations and NATS before it ends with exit code 1; none: for as long as it takes"`
}

// Shutdown is how a process ends.
type Shutdown struct {
	DrainTimeout Milliseconds `envconfig:"FUSILLADE_DRAIN_TIMEOUT_MS" default:"30000" min:"0" unit:"ms" desc:"time that calls in flight have to finish after SIGTERM"`
}

// Admin is where health and metrics are served.
type Admin struct {
	Addr  Address `envconfig:"FUSILLADE_ADMIN_ADDR" allowed:"host:port such as :9090, or empty" desc:"address that serves health and metrics; empty: none"`
	Pprof bool    `envconfig:"FUSILLADE_PPROF" default:"false" allowed:"true or false" desc:"true: ADMIN_ADDR serves profiles too, under /debug/pprof/; who can reach it can read what the process has in memory"`
}

// Logging is what is logged, and how.
type Logging struct {
	Level  Level     `envconfig:"FUSILLADE_LOG_LEVEL" default:"info" allowed:"debug, info, warn or error" desc:"least severe level that is logged"`
	Format LogFormat `envconfig:"FUSILLADE_LOG_FORMAT" derived:"json" allowed:"json or text" desc:"form of a log line, json or text"`
}
