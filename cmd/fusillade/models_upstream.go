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

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/client"
	"fusillade/internal/config"
	"fusillade/internal/operator"
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
		return "", cli.Usage(fmt.Errorf("%s holds no key", from))
	}
	if len(text) > maxKeyBytes {
		return "", cli.Usage(fmt.Errorf("%s holds a key of more than %d bytes", from, maxKeyBytes))
	}
	if err := new(config.Secret).Set(text); err != nil {
		return "", cli.Usage(fmt.Errorf("%s %w", from, err))
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

func (f *upstreamFlags) setUpstream(ctx context.Context, model string) error {
	if model == "" {
		return cli.Usage(errors.New("MODEL must not be empty"))
	}
	key, err := f.key(os.Stdin)
	if err != nil {
		return err
	}
	keys, err := openKeyring()
	if err != nil {
		return err
	}
	endpoint := operator.ModelEndpoint{Default: f.DefaultUpstream, URL: f.Upstream, Key: key}
	if err := endpoint.Check(keys); err != nil {
		return err
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return operator.SetModelEndpoint(ctx, r.Store, r.Conn, keys, batch.Model(model), endpoint)
}

// upstreamText is the column of models ls.
func upstreamText(m client.ModelStatus) string {
	if m.UpstreamKey {
		return strings.TrimSpace(cli.Plain(m.Upstream) + " (with key)")
	}
	return cli.Plain(m.Upstream)
}
