package main

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"fusillade/internal/cli"
	"fusillade/internal/client"
	"fusillade/internal/seal"
)

func TestBadUpstreams(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", "")
	t.Setenv("EMPTY_KEY", " ")
	t.Setenv("SPLIT_KEY", "sk secret")
	t.Setenv("A_KEY", "sk-secret")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no URL":            {[]string{"--upstream", "example.com"}, "--upstream"},
		"user and password": {[]string{"--upstream", "http://me:sk-secret@example.com"}, "--api-key-env"},
		"two keys":          {[]string{"--api-key-env", "A_KEY", "--api-key-stdin"}, "exclude"},
		"default and URL":   {[]string{"--default-upstream", "--upstream", "http://example.com"}, "exclude"},
		"empty key":         {[]string{"--api-key-env", "EMPTY_KEY"}, "EMPTY_KEY"},
		"blank in key":      {[]string{"--api-key-env", "SPLIT_KEY"}, "SPLIT_KEY"},
		"no encryption key": {[]string{"--api-key-env", "A_KEY"}, "FUSILLADE_ENCRYPTION_KEY"},
	} {
		code, _, message := command(t, append([]string{"models", "set", "m"}, tt.args...)...)
		if code != cli.ExitUsage || !strings.Contains(message, tt.want) || strings.Contains(message, "secret") {
			t.Errorf("%s: exit code %d, want %d and a message that names %q:\n%s", name, code, cli.ExitUsage, tt.want, message)
		}
	}
}

// The key of a model is stored encrypted, for its URL and no other.
func TestModelUpstreams(t *testing.T) {
	key := strings.Repeat("\x03", seal.KeyBytes)
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", hex.EncodeToString([]byte(key)))
	t.Setenv("A_KEY", "sk-secret")
	s := newServer(t, nil).Store
	keyring, err := seal.New([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args     []string
		url, key string
	}{
		{[]string{"--upstream", "http://one/v1/", "--api-key-env", "A_KEY", "--limit", "3"}, "http://one/v1", "sk-secret"},
		{[]string{"--limit", "4"}, "http://one/v1", "sk-secret"},
		{[]string{"--upstream", "http://one/v1"}, "http://one/v1", "sk-secret"},
		{[]string{"--upstream", "http://two"}, "http://two", ""},
		{[]string{"--api-key-env", "A_KEY"}, "http://two", "sk-secret"},
		{[]string{"--default-upstream"}, "", ""},
		{[]string{"--api-key-env", "A_KEY"}, "", "sk-secret"},
	} {
		code, _, message := command(t, append([]string{"models", "set", "m"}, step.args...)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", step.args, code, message)
		}
		all, err := s.ModelUpstreams(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := all["m"]
		if got.URL != step.url || seal.HoldsSecret(got.Key) != (step.key != "") {
			t.Errorf("%v: %q, with key: %t", step.args, got.URL, seal.HoldsSecret(got.Key))
		}
		if (got.Key == nil) != (step.url == "" && step.key == "") {
			t.Errorf("%v: the URL is sealed: %t", step.args, got.Key != nil)
		}
		if got.Key != nil {
			if opened, err := keyring.Open(seal.ModelKey("m", step.url), got.Key); err != nil || opened != step.key {
				t.Errorf("%v: the key is %q, %v", step.args, opened, err)
			}
		}
		code, out, message := command(t, "models", "ls", "--json")
		var listed client.ModelStatus
		if code != 0 || json.Unmarshal([]byte(out), &listed) != nil {
			t.Fatalf("%v: exit code %d: %s%s", step.args, code, out, message)
		}
		if listed.ID != "m" || listed.Upstream != step.url || listed.UpstreamKey != (step.key != "") {
			t.Errorf("%v: listed as %+v", step.args, listed)
		}
	}
	if _, table, _ := command(t, "models", "ls"); !strings.Contains(table, "with key") || strings.Contains(table, "secret") {
		t.Errorf("table:\n%s", table)
	}
}
