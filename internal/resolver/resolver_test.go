package resolver

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type fixture struct {
	*testcluster.Cluster
	keyring *seal.Keyring
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	return fixture{testcluster.New(t), keyring(t, 1)}
}

func keyring(t *testing.T, fill byte) *seal.Keyring {
	t.Helper()
	b, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// endpoints polls so seldom that only hints can tell it of changes in a test.
func (f fixture) endpoints(t *testing.T, b *seal.Keyring) *Resolver {
	t.Helper()
	endpoints, err := New(Config{
		Store: f.Store, Conn: f.Conn, Keyring: b, Interval: time.Hour, Log: testenv.Logger(t),
		Default: func(m batch.Model) upstream.Target {
			if m == "unknown" {
				return upstream.Target{APIKey: "env-key"}
			}
			return upstream.Target{BaseURL: "http://env", APIKey: "env-key", Options: envOptions[m]}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := endpoints.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return endpoints
}

// envOptions are what the environment says of models.
var envOptions = map[batch.Model]*endpoint.Options{
	"streamed": {Stream: endpoint.On, SendPriority: endpoint.On},
	"merged":   {Auth: endpoint.APIKey, Path: "/env", Headers: endpoint.Headers{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}},
}

// set stores a key that was encrypted for a URL; it may be empty. Without forURL
// nothing is encrypted.
func (f fixture) set(t *testing.T, model, url, forURL, key string) {
	t.Helper()
	u := postgres.ModelUpstream{URL: url}
	if key != "" || forURL != "" {
		var err error
		if u.Key, err = f.keyring.Seal(seal.ModelKey(model, forURL, ""), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Store.SetModelUpstream(t.Context(), batch.Model(model), u); err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.set(t, "inserted", "http://own", "", "")
	f.set(t, "url", "http://own", "http://own", "")
	f.set(t, "streamed", "http://own", "http://own", "")
	f.set(t, "moved", "http://evil", "http://own", "")
	f.set(t, "both", "http://own", "http://own", "own-key")
	f.set(t, "key", "", "", "own-key")
	f.set(t, "redirected", "http://evil", "http://own", "own-key")
	f.set(t, "reset", "http://own", "http://own", "own-key")
	f.set(t, "reset", "", "", "")
	const corrupt = "the model's API key cannot be decrypted: it was not encrypted for this, or was changed"
	const other = "the model's API key cannot be decrypted: it was encrypted with another key"
	unproven := func(why string) string {
		return "the model's endpoint in the database is not authenticated (" + why + "): set it again, with fusillade models set and FUSILLADE_ENCRYPTION_KEY"
	}
	endpoints, wrong, none := f.endpoints(t, f.keyring), f.endpoints(t, keyring(t, 2)), f.endpoints(t, nil)
	for _, test := range []struct {
		endpoints *Resolver
		model     batch.Model
		want      upstream.Target
	}{
		{endpoints, "env", upstream.Target{BaseURL: "http://env", APIKey: "env-key"}},
		{endpoints, "reset", upstream.Target{BaseURL: "http://env", APIKey: "env-key"}},
		{endpoints, "url", upstream.Target{BaseURL: "http://own"}},                                                                                  // the environment's key is not for it
		{endpoints, "streamed", upstream.Target{BaseURL: "http://own", Options: &endpoint.Options{Stream: endpoint.On, SendPriority: endpoint.On}}}, // unless the model says otherwise
		{endpoints, "both", upstream.Target{BaseURL: "http://own", APIKey: "own-key"}},
		{endpoints, "key", upstream.Target{BaseURL: "http://env", APIKey: "own-key"}},
		{endpoints, "redirected", upstream.Target{BaseURL: "http://evil", Unusable: corrupt, Unproven: unproven("it was not encrypted for this, or was changed")}},
		{endpoints, "inserted", upstream.Target{BaseURL: "http://own", Unproven: unproven("it was set without an encryption key")}},
		{endpoints, "moved", upstream.Target{BaseURL: "http://evil", Unproven: unproven("it was not encrypted for this, or was changed")}},
		{wrong, "both", upstream.Target{BaseURL: "http://own", Unusable: other, Unproven: unproven("it was encrypted with another key")}},
		{wrong, "url", upstream.Target{BaseURL: "http://own", Unproven: unproven("it was encrypted with another key")}},
		{none, "url", upstream.Target{BaseURL: "http://own", Unproven: unproven("no encryption key is set")}},
		{none, "both", upstream.Target{
			BaseURL: "http://own", Unusable: "the model's API key cannot be decrypted: no encryption key is set",
			Unproven: unproven("no encryption key is set"),
		}},
	} {
		got, ok := test.endpoints.Resolve(test.model)
		if diff := cmp.Diff(test.want, got); diff != "" || !ok {
			t.Errorf("%s, %t (-want +got):\n%s", test.model, ok, diff)
		}
	}
	if got, ok := endpoints.Resolve("unknown"); ok {
		t.Errorf("unknown: %+v", got)
	}
}

// A change is seen at its hint; and by a call for a model that had no endpoint.
func TestChangesAreSeen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	endpoints := f.endpoints(t, f.keyring)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		endpoints.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	f.set(t, "m", "http://own", "http://own", "own-key")
	testenv.Until(t, time.Minute, "the change is seen", func() bool {
		if err := f.Conn.Publish(streams.HintUpstreams, nil); err != nil {
			t.Fatal(err)
		}
		to, _ := endpoints.Resolve("m")
		return to.APIKey == "own-key"
	})
	lone := f.endpoints(t, f.keyring)
	f.set(t, "unknown", "http://own", "", "")
	testenv.Until(t, time.Minute, "a model without an endpoint is looked up", func() bool {
		_, ok := lone.Resolve("unknown")
		return ok
	})
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	b := &Resolver{keys: make(map[keyOf]batchKey)}
	for i := range maxKeys + 10 {
		b.keep(keyOf{generation: i}, batchKey{until: time.Now().Add(time.Hour)})
	}
	if len(b.keys) != maxKeys {
		t.Errorf("%d keys are kept", len(b.keys))
	}
	b.forget(time.Now().Add(2 * time.Hour))
	if len(b.keys) != 0 {
		t.Errorf("%d keys are left", len(b.keys))
	}
}
