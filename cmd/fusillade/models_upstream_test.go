package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fusillade/client"
	"fusillade/internal/cli"
	"fusillade/internal/seal"
)

func TestBadUpstreams(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", "postgres://nowhere.invalid/x")
	t.Setenv("EMPTY_KEY", " ")
	t.Setenv("SPLIT_KEY", "sk secret")
	t.Setenv("A_KEY", "sk-secret")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no URL":            {[]string{"--upstream", "example.com"}, "--upstream"},
		"user and password": {[]string{"--upstream", "http://me:sk-secret@example.com"}, "are given as the API key"},
		"two keys":          {[]string{"--api-key-env", "A_KEY", "--api-key-stdin"}, "exclude"},
		"default and URL":   {[]string{"--default-upstream", "--upstream", "http://example.com"}, "exclude"},
		"empty key":         {[]string{"--api-key-env", "EMPTY_KEY"}, "EMPTY_KEY"},
		"blank in key":      {[]string{"--api-key-env", "SPLIT_KEY"}, "SPLIT_KEY"},
		"no encryption key": {[]string{"--api-key-env", "A_KEY"}, "FUSILLADE_ENCRYPTION_KEY"},
		"default and auth":  {[]string{"--default-upstream", "--upstream-auth", "none"}, "excludes"},
		"unknown auth":      {[]string{"--upstream-auth", "secret"}, "--upstream-auth is none of bearer"},
		"unknown stream":    {[]string{"--stream", "maybe"}, "--stream is none of on, off and default"},
		"unknown priority":  {[]string{"--send-priority", "5"}, "--send-priority is none of on, off and default"},
		"empty stream":      {[]string{"--stream", ""}, "--stream is none of on, off and default"},
		"bad path":          {[]string{"--upstream-path", "x"}, "--upstream-path is a path that does not begin"},
		"bad model":         {[]string{"--upstream-model", "a\nb"}, "--upstream-model is a model's name with a control"},
		"bad header":        {[]string{"--upstream-header", "Host=secret"}, "--upstream-header has the header Host"},
		"no value":          {[]string{"--upstream-header", "X-Token"}, "--upstream-header is not NAME=VALUE"},
		"no variable":       {[]string{"--upstream-header-env", "X-Token=NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE is not set"},
		"unencrypted":       {[]string{"--upstream-header", "X-Token=secret"}, "are stored only encrypted"},
		"second URL":        {[]string{"--upstream", "http://one", "--upstream", "two"}, "--upstream has URL number 2, which"},
	} {
		code, _, message := command(t, append([]string{"models", "set", "m"}, tt.args...)...)
		if code != cli.ExitUsage || !strings.Contains(message, tt.want) || strings.Contains(message, "secret") {
			t.Errorf("%s: exit code %d, want %d and a message that names %q:\n%s", name, code, cli.ExitUsage, tt.want, message)
		}
	}
}

// setModel is a command that changes model m by the API, or else in the database: the
// two go on from one another.
func setModel(byAPI bool, args []string) []string {
	command := []string{"models", "set", "m"}
	if byAPI {
		command = append(command, "--server", os.Getenv("FUSILLADE_SERVER"))
	}
	return append(command, args...)
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
	for i, step := range []struct {
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
		code, _, message := command(t, setModel(i%2 == 0, step.args)...)
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
			if opened, err := keyring.Open(seal.ModelKey("m", step.url, got.Options), got.Key); err != nil || opened != step.key {
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
	if _, table, _ := command(t, "models", "ls", "-o", "wide"); !strings.Contains(table, "with key") || strings.Contains(table, "secret") {
		t.Errorf("table:\n%s", table)
	}
}

// How a model's endpoint is spoken to is kept as long as its first URL is, and
// what is secret of it is stored encrypted and shown nowhere.
func TestModelUpstreamOptions(t *testing.T) {
	key := strings.Repeat("\x03", seal.KeyBytes)
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", hex.EncodeToString([]byte(key)))
	t.Setenv("A_KEY", "sk-secret")
	t.Setenv("A_HEADER", "secret, with a comma")
	s := newServer(t, nil).Store
	keyring, err := seal.New([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		args    []string
		key     string
		headers string
		want    client.UpstreamOptions
	}{
		{[]string{"--upstream", "http://one?k=secret", "--api-key-env", "A_KEY"}, "sk-secret", "", client.UpstreamOptions{}},
		{[]string{"--upstream-auth", "x-api-key", "--upstream-model", "theirs"}, "sk-secret", "", client.UpstreamOptions{Auth: "x-api-key", Model: "theirs"}},
		{[]string{"--upstream-header", "b=2", "--upstream-header-env", "A=A_HEADER"}, "sk-secret", `{"A":"secret, with a comma","B":"2"}`,
			client.UpstreamOptions{Auth: "x-api-key", Model: "theirs", Headers: []string{"A", "B"}}},
		{[]string{"--upstream-header", "B=", "--upstream-path", "/{operation}"}, "sk-secret", `{"A":"secret, with a comma"}`,
			client.UpstreamOptions{Auth: "x-api-key", Model: "theirs", Headers: []string{"A"}, Path: "/{operation}"}},
		{[]string{"--upstream", "http://one?k=secret", "--upstream", "http://two/v1"}, "sk-secret", `{"A":"secret, with a comma"}`,
			client.UpstreamOptions{Auth: "x-api-key", Model: "theirs", Headers: []string{"A"}, Path: "/{operation}", URLs: []string{"http://one?redacted", "http://two/v1"}}},
		{[]string{"--no-upstream-headers", "--upstream-auth", "", "--upstream-path", "", "--upstream-model", ""}, "sk-secret", "",
			client.UpstreamOptions{URLs: []string{"http://one?redacted", "http://two/v1"}}},
		{[]string{"--upstream", "http://three", "--upstream-model", "theirs"}, "", "", client.UpstreamOptions{Model: "theirs"}},
		{[]string{"--default-upstream"}, "", "", client.UpstreamOptions{}},
		{[]string{"--upstream-auth", "api-key"}, "", "", client.UpstreamOptions{Auth: "api-key"}},
		{[]string{"--send-priority", "on", "--stream", "off"}, "", "", client.UpstreamOptions{Auth: "api-key", SendPriority: "on", Stream: "off"}},
		{[]string{"--send-priority", "default"}, "", "", client.UpstreamOptions{Auth: "api-key", Stream: "off"}},
		{[]string{"--send-priority", "off", "--stream", "default"}, "", "", client.UpstreamOptions{Auth: "api-key", SendPriority: "off"}},
	} {
		code, _, message := command(t, setModel(i%2 != 0, step.args)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", step.args, code, message)
		}
		all, err := s.ModelUpstreams(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := all["m"]
		if got.Key != nil {
			if opened, err := keyring.Open(seal.ModelKey("m", got.URL, got.Options), got.Key); err != nil || opened != step.key {
				t.Errorf("%v: the key is %q, %v", step.args, opened, err)
			}
		}
		if (got.Headers != nil) != (step.headers != "") {
			t.Errorf("%v: there are headers: %t", step.args, got.Headers != nil)
		} else if got.Headers != nil {
			if opened, err := keyring.Open(seal.ModelHeaders("m", got.URL, got.Options), got.Headers); err != nil || opened != step.headers {
				t.Errorf("%v: the headers are %q, %v", step.args, opened, err)
			}
		}
		code, out, message := command(t, "models", "ls", "--json")
		var listed client.ModelStatus
		if code != 0 || json.Unmarshal([]byte(out), &listed) != nil || strings.Contains(out, "secret") {
			t.Fatalf("%v: exit code %d: %s%s", step.args, code, out, message)
		}
		options := client.UpstreamOptions{}
		if listed.UpstreamOptions != nil {
			options = *listed.UpstreamOptions
		}
		if diff := cmp.Diff(step.want, options, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", step.args, diff)
		}
		if _, table, _ := command(t, "models", "ls", "-o", "wide"); strings.Contains(table, "secret") || step.want.Auth != "" && !strings.Contains(table, "auth "+step.want.Auth) ||
			step.want.SendPriority != "" && !strings.Contains(table, "send-priority "+step.want.SendPriority) {
			t.Errorf("%v: table:\n%s", step.args, table)
		}
	}
	// Without the encryption key nothing that is bound to the options can be changed.
	if code, _, message := command(t, "models", "set", "n", "--upstream", "http://one", "--api-key-env", "A_KEY"); code != 0 {
		t.Fatal(message)
	}
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", "")
	for _, args := range [][]string{{"n", "--upstream-model", "theirs"}, {"p", "--upstream-auth", "none"}} {
		if code, _, message := command(t, append([]string{"models", "set"}, args...)...); code == 0 || !strings.Contains(message, "encryption key is set") && !strings.Contains(message, "FUSILLADE_ENCRYPTION_KEY is not set") {
			t.Errorf("%v: exit code %d: %s", args, code, message)
		}
	}
	if code, _, message := command(t, "models", "set", "q", "--upstream-model", "theirs"); code != 0 {
		t.Errorf("a model's name: exit code %d: %s", code, message)
	}
}
