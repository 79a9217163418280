package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/streams"
)

// ModelEndpoint says where a model's calls go from now on, and how.
type ModelEndpoint struct {
	Default bool     // as the consumers' settings say, with the key that they say; excludes the others
	URLs    []string // none: as they were. With another first one all of the rest is forgotten
	Key     string   // empty: as it was
	// Nil leaves these as they are; empty: as the consumers' settings say where the
	// URL is theirs, else as OpenAI's.
	Auth         *endpoint.Auth
	Path         *endpoint.Path
	Model        *string
	Stream       *endpoint.Switch
	SendPriority *endpoint.Switch
	// NoHeaders removes the headers; Headers are added, or removed where the value
	// is empty.
	NoHeaders bool
	Headers   []endpoint.Header
}

// Check finds out whether the change can be stored.
func (e ModelEndpoint) Check(keys *seal.Keyring) error {
	switch {
	case e.Default && !e.onlyDefault():
		return &InvalidChangeError{FieldDefault, "excludes everything else of the endpoint"}
	case keys != nil:
	case e.Key != "":
		return &InvalidChangeError{FieldAPIKey, "is stored only encrypted, and the server's FUSILLADE_ENCRYPTION_KEY is not set"}
	case len(e.Headers) > 0:
		return &InvalidChangeError{FieldHeaders, "are stored only encrypted, and the server's FUSILLADE_ENCRYPTION_KEY is not set"}
	}
	return nil
}

// SetModelEndpoint changes where a model's calls go, as the function does.
func (c *Controller) SetModelEndpoint(ctx context.Context, model batch.Model, e ModelEndpoint) error {
	return SetModelEndpoint(ctx, c.cfg.Store, c.cfg.Conn, c.cfg.Keyring, model, e)
}

// SetModelEndpoint changes where a model's calls go, and wakes the consumers; a
// crash between the two costs what they take to look by themselves. A key is kept
// only for the URL and options that it was encrypted for. It returns an
// *InvalidChangeError for what cannot be stored, and ErrNotGranted where the role
// of the database may not.
func SetModelEndpoint(ctx context.Context, s *postgres.Store, conn *nats.Conn, keys *seal.Keyring, model batch.Model, e ModelEndpoint) error {
	if err := e.Check(keys); err != nil {
		return err
	}
	if err := store(ctx, s, keys, model, e); err != nil {
		if postgres.LacksPrivilege(err) {
			err = fmt.Errorf("%w: %w", ErrNotGranted, err)
		}
		return err
	}
	if conn.Publish(streams.HintUpstreams, nil) == nil {
		_ = conn.FlushTimeout(brokerTimeout)
	}
	return nil
}

// maxChangeTries bounds how often a change is made anew of what others have changed
// meanwhile; each time one of them has succeeded.
const maxChangeTries = 20

// store stores a change. It is made of what is stored, so it is stored only if that is
// still so: of two changes at once neither undoes the other.
func store(ctx context.Context, s *postgres.Store, keys *seal.Keyring, model batch.Model, e ModelEndpoint) error {
	if e.Default {
		return s.SetModelUpstream(ctx, model, postgres.ModelUpstream{})
	}
	for range maxChangeTries {
		all, err := s.ModelUpstreams(ctx)
		if err != nil {
			return err
		}
		to, err := e.of(all[model], keys, model)
		if err != nil {
			return err
		}
		if replaced, err := s.ReplaceModelUpstream(ctx, model, all[model], to); err != nil || replaced {
			return err
		}
	}
	return fmt.Errorf("the endpoint of model %q is changed by others all the time; try again", model)
}

// of is what the change makes of what is stored.
func (e ModelEndpoint) of(was postgres.ModelUpstream, keys *seal.Keyring, model batch.Model) (postgres.ModelUpstream, error) {
	if len(e.URLs) > 0 && e.URLs[0] != was.URL {
		was = postgres.ModelUpstream{URL: e.URLs[0]}
	}
	to := postgres.ModelUpstream{URL: was.URL}
	options, err := e.applied(was.Options, nil)
	if err != nil {
		return to, err
	}
	if options.Encode() == was.Options && e.Key == "" && len(e.Headers) == 0 && (was.Key != nil || keys == nil || was.URL == "" && options.Plain()) {
		return was, nil
	}
	key, headers, err := openModel(keys, model, was, e.Key)
	if err != nil {
		return to, err
	}
	if options, err = e.applied(was.Options, headers); err != nil {
		return to, err
	}
	switch to.Options = options.Encode(); {
	case to.URL == "" && len(options.More) > 0:
		return to, &InvalidChangeError{FieldURLs, "has further URLs, and the model has no URL of its own that they could stand beside"}
	case keys == nil && to.URL == "" && !options.Plain():
		return to, &InvalidChangeError{FieldURLs, "is needed: how the consumers' own endpoint is given a key is stored only with a proof, and the server's FUSILLADE_ENCRYPTION_KEY is not set. " +
			"Or set FUSILLADE_UPSTREAM_AUTH, _HEADERS or _PATH"}
	case keys == nil:
		return to, nil
	}
	// Without a key of its own the URL is sealed all the same: consumers send the
	// keys of batches to no URL that anybody may have put into the database.
	if key != "" || to.URL != "" || !options.Plain() {
		if to.Key, err = keys.Seal(seal.ModelKey(string(model), to.URL, to.Options), key); err != nil {
			return to, err
		}
	}
	if len(options.Headers) > 0 {
		to.Headers, err = keys.Seal(seal.ModelHeaders(string(model), to.URL, to.Options), options.Headers.JSON())
	}
	return to, err
}

// openModel decrypts what is stored for a model, so that it can be encrypted anew
// for other options. A new key takes the place of the stored one.
func openModel(keys *seal.Keyring, model batch.Model, was postgres.ModelUpstream, key string) (_ string, headers endpoint.Headers, err error) {
	secret := seal.HoldsSecret(was.Key) && key == ""
	if keys == nil && !secret && was.Headers == nil {
		return key, nil, nil
	}
	cannot := func(what string, err error) error {
		return &InvalidChangeError{FieldDefault, fmt.Sprintf("is needed first, which forgets everything of the endpoint: the stored %s of model %q cannot be decrypted (%v)", what, model, err)}
	}
	if secret {
		if key, err = keys.Open(seal.ModelKey(string(model), was.URL, was.Options), was.Key); err != nil {
			return "", nil, cannot("API key", err)
		}
	}
	if was.Headers != nil {
		text, err := keys.Open(seal.ModelHeaders(string(model), was.URL, was.Options), was.Headers)
		if err == nil {
			headers, err = endpoint.ParseHeaders(text)
		}
		if err != nil {
			return "", nil, cannot("headers", err)
		}
	}
	return key, headers, nil
}

// applied returns stored options, with these headers, changed.
func (e ModelEndpoint) applied(stored string, headers endpoint.Headers) (*endpoint.Options, error) {
	was, err := endpoint.Decode(stored)
	if err != nil {
		return nil, &InvalidChangeError{FieldDefault, "is needed first, which forgets everything of the endpoint: " + err.Error()}
	}
	options := &endpoint.Options{}
	if was != nil {
		options = was
	}
	if headers != nil {
		options.Headers = headers
	}
	if len(e.URLs) > 0 {
		options.More = slices.Clone(e.URLs[1:])
	}
	if e.Auth != nil {
		options.Auth = *e.Auth
	}
	if e.Path != nil {
		options.Path = *e.Path
	}
	if e.Model != nil {
		options.Model = *e.Model
	}
	if e.Stream != nil {
		options.Stream = *e.Stream
	}
	if e.SendPriority != nil {
		options.SendPriority = *e.SendPriority
	}
	if e.NoHeaders {
		options.Headers = nil
	}
	for _, h := range e.Headers {
		if err := options.Headers.Set(h.Name, h.Value); err != nil {
			return nil, &InvalidChangeError{FieldHeaders, err.Error()}
		}
	}
	return options, nil
}
