package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"strings"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/control"
)

// upstreamFlags say where a model's calls go.
type upstreamFlags struct {
	Upstream        []string `placeholder:"URL" sep:"none" help:"Endpoint of the model; given several times, all URLs at which it is. What was set for an endpoint with another first URL is removed, its key too."`
	APIKeyEnv       string   `name:"api-key-env" placeholder:"NAME" help:"Environment variable that holds the endpoint's API key; it is stored encrypted with FUSILLADE_ENCRYPTION_KEY."`
	APIKeyStdin     bool     `name:"api-key-stdin" help:"Read that key from standard input."`
	DefaultUpstream bool     `help:"Its calls go where the consumers' environment says, with the key that it says."`
	UpstreamAuth    *string  `placeholder:"SCHEME" help:"How the endpoint is given the key: bearer, api-key, x-api-key, basic (the key is user:password), none, or a header such as 'X-Token: Bearer {key}'."`
	UpstreamHeader  []string `placeholder:"NAME=VALUE" sep:"none" help:"Header that is sent to the endpoint with every call, stored encrypted; NAME= removes it."`
	HeaderEnv       []string `name:"upstream-header-env" placeholder:"NAME=VARIABLE" sep:"none" help:"The same, with the value from an environment variable."`
	NoHeaders       bool     `name:"no-upstream-headers" help:"Remove those headers."`
	UpstreamModel   *string  `placeholder:"NAME" help:"What the endpoint calls the model."`
	Stream          *string  `placeholder:"on|off|default" help:"Whether calls ask for a streamed answer, which is folded into one object, also where the request does not; default: as the consumers' environment says."`
	SendPriority    *string  `placeholder:"on|off|default" help:"Whether the priority in the body of a call is the deadline of its batch, in Unix seconds, for engines that serve the lowest first (vLLM with --scheduling-policy priority); default: as the consumers' environment says."`
	UpstreamPath    *string  `placeholder:"PATH" help:"What follows the endpoint's URL in place of the path of a request, such as /openai/deployments/{model}/{operation}."`
}

func (f *upstreamFlags) given() bool {
	return f.setsEndpoint() || f.DefaultUpstream
}

func (f *upstreamFlags) setsEndpoint() bool {
	return len(f.Upstream) > 0 || f.APIKeyEnv != "" || f.APIKeyStdin || f.UpstreamAuth != nil || len(f.UpstreamHeader) > 0 || len(f.HeaderEnv) > 0 ||
		f.NoHeaders || f.UpstreamModel != nil || f.UpstreamPath != nil || f.Stream != nil || f.SendPriority != nil
}

// key reads the API key; empty: none is given. Its errors hold nothing of it.
func (f *upstreamFlags) key(stdin io.Reader) (string, error) {
	var text, from string
	switch {
	case f.APIKeyEnv != "":
		text, from = os.Getenv(f.APIKeyEnv), "the environment variable "+f.APIKeyEnv
	case f.APIKeyStdin:
		line, err := bufio.NewReader(io.LimitReader(stdin, control.MaxKeyBytes+1)).ReadString('\n')
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
	key, err := control.ParseKey(text)
	if err != nil {
		return "", cli.Usage(fmt.Errorf("%s %w", from, err))
	}
	return key, nil
}

func (f *upstreamFlags) check() error {
	switch {
	case f.DefaultUpstream && f.setsEndpoint():
		return errors.New("--default-upstream excludes the other flags of the endpoint")
	case f.APIKeyEnv != "" && f.APIKeyStdin:
		return errors.New("--api-key-env and --api-key-stdin exclude each other")
	}
	text, err := f.text()
	if err == nil {
		_, err = text.Parse()
	}
	return asFlag(err)
}

// text is what the flags say, but for the key.
func (f *upstreamFlags) text() (control.EndpointText, error) {
	headers, err := f.headers()
	return control.EndpointText{
		Default: f.DefaultUpstream, URLs: f.Upstream, Auth: f.UpstreamAuth, Path: f.UpstreamPath, Model: f.UpstreamModel, Stream: f.Stream, Priority: f.SendPriority,
		NoHeaders: f.NoHeaders, Headers: headers,
	}, err
}

// fieldFlags are the flags of the fields of a change.
var fieldFlags = map[string]string{
	control.FieldURLs: "--upstream", control.FieldAPIKey: "the API key", control.FieldAuth: "--upstream-auth", control.FieldHeaders: "--upstream-header",
	control.FieldNoHeaders: "--no-upstream-headers", control.FieldPath: "--upstream-path", control.FieldModel: "--upstream-model", control.FieldStream: "--stream",
	control.FieldSendPriority: "--send-priority", control.FieldDefault: "--default-upstream",
}

// asFlag makes an error about a field one about its flag.
func asFlag(err error) error {
	var change *control.InvalidChangeError
	if errors.As(err, &change) {
		return cli.Usage(fmt.Errorf("%s %s", cmp.Or(fieldFlags[change.Field], change.Field), change.Text))
	}
	return err
}

func (f *upstreamFlags) headers() (all map[string]string, err error) {
	all = make(map[string]string)
	add := func(flag, text string, value func(string) (string, error)) error {
		at := strings.IndexAny(text, "=:")
		if at < 0 {
			return fmt.Errorf("%s is not NAME=VALUE", flag)
		}
		name := textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(text[:at]))
		if all[name], err = value(strings.TrimSpace(text[at+1:])); err != nil {
			return fmt.Errorf("%s %s: %w", flag, name, err)
		}
		return nil
	}
	for _, text := range f.UpstreamHeader {
		if err := add("--upstream-header", text, func(value string) (string, error) { return value, nil }); err != nil {
			return nil, err
		}
	}
	for _, text := range f.HeaderEnv {
		if err := add("--upstream-header-env", text, func(variable string) (string, error) {
			value := strings.TrimSpace(os.Getenv(variable))
			if value == "" {
				return "", fmt.Errorf("the environment variable %s is not set", variable)
			}
			return value, nil
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// setUpstream changes the model's endpoint: in the database where the environment
// names that and no server was asked for, else by the API.
func (f *upstreamFlags) setUpstream(ctx context.Context, models *modelsCmd, model string) error {
	if model == "" {
		return cli.Usage(errors.New("MODEL must not be empty"))
	}
	key, err := f.key(os.Stdin)
	if err != nil {
		return err
	}
	text, err := f.text()
	if err != nil {
		return cli.Usage(err)
	}
	cfg, err := loadSettings()
	if err != nil {
		return err
	}
	if models.Server != "" || !cfg.Postgres.URL.IsSet() {
		return models.change(ctx, model, client.ModelChange{ModelEndpoint: &client.ModelEndpoint{
			URLs: text.URLs, APIKey: key, Auth: text.Auth, Headers: text.Headers, NoHeaders: text.NoHeaders, Path: text.Path, Model: text.Model,
			Stream: text.Stream, SendPriority: text.Priority, Default: text.Default,
		}})
	}
	keys, err := openKeyring()
	if err != nil {
		return err
	}
	to, err := text.Parse()
	if err != nil {
		return asFlag(err)
	}
	to.Key = key
	if err := to.Check(keys); err != nil {
		return asFlag(err)
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return asFlag(control.SetModelEndpoint(ctx, r.Store, r.Conn, keys, batch.Model(model), to))
}

// upstreamText is the column of models ls.
func upstreamText(m client.ModelStatus) string {
	var notes []string
	if m.UpstreamKey {
		notes = append(notes, "with key")
	}
	if o := m.UpstreamOptions; o != nil {
		if n := len(o.URLs); n > 1 {
			notes = append(notes, fmt.Sprintf("and %d more", n-1))
		}
		if o.Model != "" {
			notes = append(notes, "as "+cli.Plain(o.Model))
		}
		if o.Auth != "" {
			notes = append(notes, "auth "+cli.Plain(o.Auth))
		}
		if o.Path != "" {
			notes = append(notes, "path "+cli.Plain(o.Path))
		}
		if o.Stream != "" {
			notes = append(notes, "stream "+cli.Plain(o.Stream))
		}
		if o.SendPriority != "" {
			notes = append(notes, "send-priority "+cli.Plain(o.SendPriority))
		}
		if len(o.Headers) > 0 {
			notes = append(notes, "headers "+cli.Plain(strings.Join(o.Headers, " ")))
		}
	}
	if len(notes) == 0 {
		return cli.Plain(m.Upstream)
	}
	return strings.TrimSpace(cli.Plain(m.Upstream) + " (" + strings.Join(notes, ", ") + ")")
}
