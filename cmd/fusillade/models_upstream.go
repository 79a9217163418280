package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/client"
	"fusillade/internal/config"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/streams"
)

// upstreamFlags say where a model's calls go.
type upstreamFlags struct {
	Upstream        string `placeholder:"URL" help:"Endpoint of the model. A key that was set for another one is removed."`
	APIKeyEnv       string `name:"api-key-env" placeholder:"NAME" help:"Environment variable that holds the endpoint's API key; it is stored encrypted with FUSILLADE_ENCRYPTION_KEY."`
	APIKeyStdin     bool   `name:"api-key-stdin" help:"Read that key from standard input."`
	DefaultUpstream bool   `help:"Its calls go where the consumers' environment says, with the key that it says."`
}

func (f *upstreamFlags) given() bool {
	return f.Upstream != "" || f.APIKeyEnv != "" || f.APIKeyStdin || f.DefaultUpstream
}

const maxKeyBytes = 8 << 10

// key reads the API key; empty: none is given. Its errors hold nothing of it.
func (f *upstreamFlags) key(stdin io.Reader) (string, error) {
	var text, from string
	switch {
	case f.APIKeyEnv != "":
		text, from = os.Getenv(f.APIKeyEnv), "the environment variable "+f.APIKeyEnv
	case f.APIKeyStdin:
		line, err := bufio.NewReader(io.LimitReader(stdin, maxKeyBytes+1)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the key: %w", err)
		}
		text, from = line, "standard input"
	default:
		return "", nil
	}
	return checkKey(text, from)
}

// checkKey returns an API key without the space around it. Its errors say where
// it is from, and hold nothing of it.
func checkKey(text, from string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", usage(fmt.Errorf("%s holds no key", from))
	}
	if len(text) > maxKeyBytes {
		return "", usage(fmt.Errorf("%s holds a key of more than %d bytes", from, maxKeyBytes))
	}
	if err := new(config.Secret).Set(text); err != nil {
		return "", usage(fmt.Errorf("%s %w", from, err))
	}
	return text, nil
}

func (f *upstreamFlags) check() error {
	switch {
	case f.DefaultUpstream && (f.Upstream != "" || f.APIKeyEnv != "" || f.APIKeyStdin):
		return errors.New("--default-upstream excludes --upstream, --api-key-env and --api-key-stdin")
	case f.APIKeyEnv != "" && f.APIKeyStdin:
		return errors.New("--api-key-env and --api-key-stdin exclude each other")
	}
	if f.Upstream == "" {
		return nil
	}
	var endpoint config.HTTPURL
	if err := endpoint.Set(f.Upstream); err != nil {
		return fmt.Errorf("--upstream %w", err)
	}
	if u, err := url.Parse(f.Upstream); err != nil || u.User != nil {
		return errors.New("--upstream must hold no user or password: give the key by --api-key-env or --api-key-stdin")
	}
	f.Upstream = endpoint.Reveal()
	return nil
}

// setUpstream writes to Postgres, then wakes the consumers. A crash between the
// two costs what they take to look by themselves.
func (f *upstreamFlags) setUpstream(ctx context.Context, model string) error {
	if model == "" {
		return usage(errors.New("MODEL must not be empty"))
	}
	key, err := f.key(os.Stdin)
	if err != nil {
		return err
	}
	box, err := openBox()
	if err != nil {
		return err
	}
	if key != "" && box == nil {
		return usage(errors.New("FUSILLADE_ENCRYPTION_KEY is not set: an API key is stored only encrypted"))
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	to, err := f.settle(ctx, r.Store, batch.Model(model), box, key)
	if err != nil {
		return err
	}
	if err := r.Store.SetModelUpstream(ctx, batch.Model(model), to); err != nil {
		return err
	}
	hintUpstreams(r.Conn)
	return nil
}

// settle is what is to be stored. A key is kept only for the URL that it was
// encrypted for.
func (f *upstreamFlags) settle(ctx context.Context, s *postgres.Store, model batch.Model, box *seal.Keyring, key string) (postgres.ModelUpstream, error) {
	if f.DefaultUpstream {
		return postgres.ModelUpstream{}, nil
	}
	all, err := s.ModelUpstreams(ctx)
	if err != nil {
		return postgres.ModelUpstream{}, err
	}
	to := all[model]
	if f.Upstream != "" && f.Upstream != to.URL {
		to = postgres.ModelUpstream{URL: f.Upstream}
	}
	if key != "" {
		to.Key, err = box.Seal(seal.ModelKey(string(model), to.URL), key)
	}
	return to, err
}

// hintUpstreams wakes the consumers.
func hintUpstreams(conn *nats.Conn) {
	if conn.Publish(streams.HintUpstreams, nil) == nil {
		_ = conn.FlushTimeout(dialTimeout)
	}
}

// upstreamText is the column of models ls.
func upstreamText(m client.ModelStatus) string {
	if m.UpstreamKey {
		return strings.TrimSpace(plain(m.Upstream) + " (with key)")
	}
	return plain(m.Upstream)
}
