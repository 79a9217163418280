package resolver

import (
	"errors"
	"fmt"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/upstream"
)

var errNotSealed = errors.New("it was set without an encryption key")

// open makes a target of what is stored for a model: with the environment's
// endpoint, key and options where the row has none. The environment's key goes
// to no URL but the environment's.
//
// Someone who can write to the database can put any URL and options there; only
// what was sealed, with a key or without, was chosen by somebody who has the
// encryption key, and is sent secrets: the keys of batches, the headers, and the
// environment's key. A model's name for the endpoint is no way to any of them.
func (r *Resolver) open(model batch.Model, u postgres.ModelUpstream) upstream.Target {
	to := upstream.Target{BaseURL: u.URL}
	options, err := r.unseal(model, u, &to)
	if err != nil {
		const again = ": set it again, with fusillade models set and FUSILLADE_ENCRYPTION_KEY"
		what := "the model's endpoint"
		if u.URL == "" {
			what = "how the model's endpoint is spoken to"
		}
		if u.URL != "" || !options.Plain() {
			to.Unproven = fmt.Sprintf("%s in the database is not authenticated (%v)%s", what, err, again)
		}
		switch {
		case seal.HoldsSecret(u.Key):
			to.Unusable = fmt.Sprintf("the model's API key cannot be decrypted: %v", err)
		case u.Headers != nil:
			to.Unusable = fmt.Sprintf("the headers of the model's endpoint cannot be decrypted: %v", err)
		case u.URL == "":
			to.Unusable = to.Unproven
		}
	}
	theirs := r.cfg.Default(model)
	if to.Options = options; u.URL == "" {
		to.BaseURL, to.Options = theirs.BaseURL, theirs.Options.With(options)
		if !seal.HoldsSecret(u.Key) {
			to.APIKey = theirs.APIKey
		}
	}
	if theirs.Options != nil {
		to.Options = to.Options.WithSwitches(theirs.Options.Stream, theirs.Options.SendPriority)
	}
	return to
}

// unseal decrypts the API key into to, and returns the options; with an error
// without their headers.
func (r *Resolver) unseal(model batch.Model, u postgres.ModelUpstream, to *upstream.Target) (*endpoint.Options, error) {
	options, err := endpoint.Decode(u.Options)
	if err != nil {
		return &endpoint.Options{Auth: endpoint.None}, err // sent no key, whatever it was
	}
	open, err := r.unsealed(model, u, options, to)
	if err != nil && options != nil {
		options.Headers = nil
		return options, err
	}
	return open, err
}

func (r *Resolver) unsealed(model batch.Model, u postgres.ModelUpstream, options *endpoint.Options, to *upstream.Target) (*endpoint.Options, error) {
	if u.Key == nil {
		return nil, errNotSealed
	}
	key, err := r.cfg.Keyring.Open(seal.ModelKey(string(model), u.URL, u.Options), u.Key)
	if err != nil {
		return nil, err
	}
	if options != nil && len(options.Headers) > 0 {
		headers, err := r.cfg.Keyring.Open(seal.ModelHeaders(string(model), u.URL, u.Options), u.Headers)
		if err != nil {
			return nil, err
		}
		if options, err = options.WithSecrets(headers); err != nil {
			return nil, err
		}
	}
	to.APIKey = key
	return options, nil
}
