package main

import (
	"time"

	"fusillade/internal/bench"
	"fusillade/internal/cli"
)

type benchCmd struct {
	Requests    int           `default:"20000" placeholder:"N" help:"Requests of one run (default ${default})."`
	Models      int           `default:"1" placeholder:"N" help:"Models that share the requests; the calls in flight are those of all together (default ${default})."`
	Latency     time.Duration `default:"0" placeholder:"TIME" help:"How long the mock endpoint takes for a call (default ${default})."`
	Concurrency int           `default:"64" placeholder:"N" help:"Calls in flight (default ${default})."`
	BodyBytes   int           `default:"1024" placeholder:"N" help:"Size of a request's body (default ${default})."`
	Pickups     int           `default:"50" placeholder:"N" help:"Batches of one request with which to measure the pickup (default ${default})."`
	Runs        int           `default:"1" placeholder:"N" help:"Runs; every figure is the median of them (default ${default})."`
	Replicas    int           `default:"0" placeholder:"N" help:"Measure with N NATS servers and as many copies of everything, and with one, both on files. Default: one in this process, in memory."`
	DataDir     string        `placeholder:"DIR" help:"Where Postgres and the broker keep their files. Default: a temporary directory."`
	JSON        bool          `name:"json" help:"Print one JSON object."`
	CPUProfile  string        `name:"cpu-profile" placeholder:"FILE" help:"Write a CPU profile of this process, for go tool pprof."`
}

func (c *benchCmd) Run(s cli.Signals, t *cli.Terminal) error {
	return bench.Run(s, t, bench.Options(*c), loadSettings)
}
