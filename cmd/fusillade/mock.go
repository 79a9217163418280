package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"fusillade/internal/cli"
	"fusillade/internal/mock"
)

type mockCmd struct {
	Listen       string   `help:"Address to listen on; port 0 takes a free one (default ${default})." default:"127.0.0.1:0" placeholder:"HOST:PORT"`
	Latency      string   `help:"Time from request to answer: 50ms, uniform:10ms-80ms, normal:50ms±10ms (mean and standard deviation), or hang for no answer at all." placeholder:"TIME"`
	TokenLatency string   `help:"Time before each further part of a streamed answer, as --latency; hang stops after the first." placeholder:"TIME"`
	Errors       string   `help:"Errors to inject, as shares of the calls by status: 429=0.05,500=0.05,400=0.01. Final ones such as 400 hit the same custom ids every time." placeholder:"STATUS=RATE,..."`
	Behaviors    string   `help:"Other ways to answer, as shares of the calls by name: html=0.05,reset=0.01. A prompt asks for one with mock:html. docs/mock.md lists them." placeholder:"NAME=RATE,..."`
	RetryAfter   int      `help:"Seconds to send as Retry-After with 429 and 503. 0 sends none (default ${default})." default:"0" placeholder:"SECONDS"`
	Ceiling      string   `help:"Most calls in flight by model, * for models not listed: gpt-4=5,*=10, or one number for all. A call beyond gets 429 and counts as a violation in /stats." placeholder:"N|MODEL=N,..."`
	Knee         string   `help:"Make an engine of each model that works on so many calls at once, each for its latency; more wait in a queue: 64, or gpt-4=64,*=8." placeholder:"N|MODEL=N,..."`
	Change       []string `sep:"none" help:"Change settings so long after the start, as PATCH /config does: '60s={\"knee\":\"32\"}'. May be repeated." placeholder:"TIME={...}"`
	Seed         uint64   `help:"Seed of answers, errors and latencies. Equal seeds repeat a run (default ${default})." default:"0" placeholder:"N"`
	OutputTokens int      `help:"Length of each answer, in words (default ${default})." default:"16" placeholder:"N"`
	NoCustomIDs  bool     `name:"no-custom-ids" help:"Do not count calls per custom id. Saves memory in runs of millions of requests; errors then follow X-Fusillade-Attempt."`
	TLSCert      string   `name:"tls-cert" and:"tls" help:"Serve https, and HTTP/2 over it, with the certificate of this file, PEM." placeholder:"FILE"`
	TLSKey       string   `name:"tls-key" and:"tls" help:"File with the certificate's key, PEM." placeholder:"FILE"`
}

// tls is how https is served; nil: http is.
func (c *mockCmd) tls() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key are no certificate and its key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// Run serves the mock model endpoint until ctx is done. Calls in flight then
// have five seconds to end.
func (c *mockCmd) Run(ctx context.Context, t *cli.Terminal) error {
	https, err := c.tls()
	if err != nil {
		return cli.Usage(err)
	}
	endpoint, err := mock.Listen(ctx, c.Listen, mock.Config{
		Settings: mock.Settings{
			Latency:           c.Latency,
			TokenLatency:      c.TokenLatency,
			Errors:            c.Errors,
			Behaviors:         c.Behaviors,
			RetryAfterSeconds: c.RetryAfter,
			Ceilings:          c.Ceiling,
			Knee:              c.Knee,
		},
		Seed:          c.Seed,
		DropCustomIDs: c.NoCustomIDs,
		OutputTokens:  c.OutputTokens,
		Changes:       c.Change,
		TLS:           https,
	})
	if err != nil {
		return cli.Usage(err)
	}
	if _, err := fmt.Fprintf(t.Out, "listening on %s\n", endpoint.URL); err != nil {
		return errors.Join(err, endpoint.Stop())
	}
	select {
	case err := <-endpoint.Served():
		return fmt.Errorf("serving on %s: %w", endpoint.URL, err)
	case <-ctx.Done():
		return endpoint.Stop()
	}
}
