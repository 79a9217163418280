package resolver

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/upstream"
)

// What operators set is what is called. Someone who can write to the database
// can have no secret sent otherwise: not the model's key, not the environment's,
// not one that a batch brought, and not a header.
func TestOptions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const url = "http://own"
	all := &endpoint.Options{
		More: []string{"http://more"}, Auth: endpoint.XAPIKey, Path: "/{operation}", Model: "theirs",
		Headers: endpoint.Headers{{Name: "A", Value: "a-secret"}},
	}
	manner := &endpoint.Options{Auth: endpoint.XAPIKey, Headers: endpoint.Headers{{Name: "B", Value: "3"}}}
	name := &endpoint.Options{Model: "theirs", SendPriority: endpoint.On}
	without := func(o endpoint.Options) *endpoint.Options {
		o.Headers = nil
		return &o
	}
	corrupt := "it was not encrypted for this, or was changed"
	endpointUnproven := func(why string) string {
		return "the model's endpoint in the database is not authenticated (" + why + "): set it again, with fusillade models set and FUSILLADE_ENCRYPTION_KEY"
	}
	mannerUnproven := func(why string) string {
		return "how the model's endpoint is spoken to in the database is not authenticated (" + why + "): set it again, with fusillade models set and FUSILLADE_ENCRYPTION_KEY"
	}
	for model, test := range map[batch.Model]struct {
		url      string
		options  *endpoint.Options
		key      string
		unsealed bool                          // set without an encryption key
		tampered func(*postgres.ModelUpstream) // by someone who writes to the database
		want     upstream.Target
	}{
		"all of it":          {url: url, options: all, key: "k", want: upstream.Target{BaseURL: url, APIKey: "k", Options: all}},
		"without a key":      {url: url, options: all, want: upstream.Target{BaseURL: url, Options: all}},
		"of the environment": {options: manner, want: upstream.Target{BaseURL: "http://env", APIKey: "env-key", Options: manner}},
		"with a key":         {options: manner, key: "k", want: upstream.Target{BaseURL: "http://env", APIKey: "k", Options: manner}},
		"a name, unsealed":   {options: name, unsealed: true, want: upstream.Target{BaseURL: "http://env", APIKey: "env-key", Options: name}},
		"endpoint, unsealed": {url: url, options: without(*all), unsealed: true, want: upstream.Target{BaseURL: url, Options: without(*all), Unproven: endpointUnproven("it was set without an encryption key")}},
		"merged": {options: manner, want: upstream.Target{BaseURL: "http://env", APIKey: "env-key", Options: &endpoint.Options{
			Auth: endpoint.XAPIKey, Path: "/env", Headers: endpoint.Headers{{Name: "A", Value: "1"}, {Name: "B", Value: "3"}},
		}}},
		"inserted": {options: without(*manner), unsealed: true, want: upstream.Target{
			BaseURL: "http://env", APIKey: "env-key", Options: without(*manner),
			Unusable: mannerUnproven("it was set without an encryption key"), Unproven: mannerUnproven("it was set without an encryption key"),
		}},
		"a URL added": {url: url, options: name, key: "k", tampered: func(u *postgres.ModelUpstream) {
			u.Options = (&endpoint.Options{Model: "theirs", More: []string{"http://evil"}}).Encode()
		}, want: upstream.Target{
			BaseURL: url, Options: &endpoint.Options{Model: "theirs", More: []string{"http://evil"}},
			Unusable: "the model's API key cannot be decrypted: " + corrupt, Unproven: endpointUnproven(corrupt),
		}},
		"another header": {url: url, options: all, tampered: func(u *postgres.ModelUpstream) {
			u.Options = (&endpoint.Options{Auth: "X-Log: {key}"}).Encode()
		}, want: upstream.Target{
			BaseURL: url, Options: &endpoint.Options{Auth: "X-Log: {key}"},
			Unusable: "the headers of the model's endpoint cannot be decrypted: " + corrupt, Unproven: endpointUnproven(corrupt),
		}},
		"another URL": {url: url, options: all, tampered: func(u *postgres.ModelUpstream) { u.URL = "http://evil" }, want: upstream.Target{
			BaseURL: "http://evil", Options: without(*all),
			Unusable: "the headers of the model's endpoint cannot be decrypted: " + corrupt, Unproven: endpointUnproven(corrupt),
		}},
		"no headers": {url: url, options: all, tampered: func(u *postgres.ModelUpstream) { u.Headers = nil }, want: upstream.Target{
			BaseURL: url, Options: without(*all), Unproven: endpointUnproven(corrupt),
		}},
		"no options": {url: url, options: all, key: "k", tampered: func(u *postgres.ModelUpstream) { u.Options = "" }, want: upstream.Target{
			BaseURL: url, Unusable: "the model's API key cannot be decrypted: " + corrupt, Unproven: endpointUnproven(corrupt),
		}},
		"nonsense": {options: name, tampered: func(u *postgres.ModelUpstream) { u.Options = "{" }, want: upstream.Target{
			BaseURL: "http://env", APIKey: "env-key", Options: &endpoint.Options{Auth: endpoint.None},
			Unusable: mannerUnproven("the options of the endpoint are not those that were set"),
			Unproven: mannerUnproven("the options of the endpoint are not those that were set"),
		}},
	} {
		u := postgres.ModelUpstream{URL: test.url, Options: test.options.Encode()}
		if !test.unsealed {
			var err error
			if u.Key, err = f.keyring.Seal(seal.ModelKey(string(model), u.URL, u.Options), test.key); err != nil {
				t.Fatal(err)
			}
			if len(test.options.Headers) > 0 {
				if u.Headers, err = f.keyring.Seal(seal.ModelHeaders(string(model), u.URL, u.Options), test.options.Headers.JSON()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if test.tampered != nil {
			test.tampered(&u)
		}
		if err := f.Store.SetModelUpstream(t.Context(), model, u); err != nil {
			t.Fatal(err)
		}
		got, ok := f.endpoints(t, f.keyring).Resolve(model)
		if diff := cmp.Diff(test.want, got); diff != "" || !ok {
			t.Errorf("%s, %t (-want +got):\n%s", model, ok, diff)
		}
	}
}
