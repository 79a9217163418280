package main

import (
	"errors"
	"os"
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
	HTTP2       bool          `name:"http2" help:"Call the mock endpoint by HTTP/2, over TLS with a certificate made for the run: 250 calls share a connection, so that more can be in flight than files may be open."`
	JSON        bool          `name:"json" help:"Print one JSON object."`
	CPUProfile  string        `name:"cpu-profile" placeholder:"FILE" help:"Write a CPU profile of this process, for go tool pprof; with --replicas, that with one server to FILE.one."`

	FileToOutput bool   `name:"file-to-output" help:"Take a generated file the whole way to its output file, with the rate, the tables and the log of Postgres by tenths; then delete all of it while a second batch runs. It says first how much disk that needs."`
	CurveFile    string `name:"curve" placeholder:"FILE" help:"With --file-to-output: write the tenths as CSV."`

	Cluster     bool   `help:"Measure the daemons of the cluster that FUSILLADE_DATABASE_URL and FUSILLADE_NATS_URL name. They call a mock endpoint here, by models that are made for it."`
	DatabaseURL string `name:"database-url" placeholder:"URL" help:"The cluster's database, in place of FUSILLADE_DATABASE_URL; implies --cluster. Others on this machine can see it."`
	NATSURL     string `name:"nats-url" placeholder:"URL" help:"The cluster's broker, in place of FUSILLADE_NATS_URL; implies --cluster."`
	Host        string `default:"127.0.0.1" placeholder:"HOST" help:"Name or address of this machine, at which the cluster's consumers reach the mock endpoint (default ${default})."`
}

func (c *benchCmd) Run(s cli.Signals, t *cli.Terminal) error {
	o := bench.Options{
		Requests: c.Requests, Models: c.Models, Latency: c.Latency, Concurrency: c.Concurrency, BodyBytes: c.BodyBytes,
		Pickups: c.Pickups, Runs: c.Runs, Replicas: c.Replicas, DataDir: c.DataDir, JSON: c.JSON, CPUProfile: c.CPUProfile, CurveFile: c.CurveFile, Host: c.Host, HTTP2: c.HTTP2,
	}
	if c.FileToOutput {
		if c.Cluster || c.DatabaseURL != "" || c.NATSURL != "" {
			return cli.Usage(errors.New("--file-to-output measures a pipeline in this process: leave out --cluster, --database-url and --nats-url"))
		}
		return bench.RunWhole(s, t, o, loadSettings)
	}
	if c.CurveFile != "" {
		return cli.Usage(errors.New("--curve is of a run with --file-to-output"))
	}
	if !c.Cluster && c.DatabaseURL == "" && c.NATSURL == "" {
		return bench.Run(s, t, o, loadSettings)
	}
	for name, url := range map[string]string{"FUSILLADE_DATABASE_URL": c.DatabaseURL, "FUSILLADE_NATS_URL": c.NATSURL} {
		if url == "" {
			continue
		}
		if err := os.Setenv(name, url); err != nil {
			return err
		}
	}
	cluster, err := connectCluster(s.Taking)
	if err != nil {
		return err
	}
	defer cluster.Close()
	return bench.RunCluster(s, t, o, cluster)
}
