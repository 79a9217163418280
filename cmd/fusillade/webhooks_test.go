package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"fusillade/internal/testenv"
)

func TestWebhookCommands(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", testenv.DatabaseURL(t))
	type delivery struct {
		header http.Header
		body   []byte
	}
	got := make(chan delivery, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- delivery{r.Header, body}
	}))
	t.Cleanup(server.Close)
	refused := func(want string, args ...string) {
		t.Helper()
		code, _, message := command(t, append([]string{"webhooks"}, args...)...)
		if code == 0 || !strings.Contains(message, want) {
			t.Errorf("%v: exit code %d, want a message that names %q:\n%s", args, code, want, message)
		}
	}
	do := func(args ...string) (out, message string) {
		t.Helper()
		code, out, message := command(t, append([]string{"webhooks"}, args...)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d:\n%s", args, code, message)
		}
		return out, message
	}
	create := []string{"create", "--owner", "alice", "--url", server.URL}
	refused("FUSILLADE_ENCRYPTION_KEY", create...)
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", strings.Repeat("ab", 32))
	refused("--url", "create", "--owner", "alice", "--url", "example.com")
	refused("--owner", "create", "--owner", "", "--url", server.URL)
	secret, _ := do(create...)
	if !strings.HasPrefix(secret, "whsec_") || strings.Count(secret, "\n") != 1 {
		t.Errorf("printed %q", secret)
	}
	table, _ := do("ls")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], server.URL) || strings.Contains(table, strings.TrimSpace(secret)) {
		t.Fatalf("table:\n%s", table)
	}
	id := strings.Fields(lines[1])[0]
	refused("private", "test", id)
	t.Setenv("FUSILLADE_WEBHOOK_ALLOW_PRIVATE", "true")
	do("test", id)
	receiver, err := standardwebhooks.NewWebhook(strings.TrimSpace(secret))
	if err != nil {
		t.Fatal(err)
	}
	sent := testenv.Receive(t, "the event has come", got)
	if err := receiver.Verify(sent.body, sent.header); err != nil {
		t.Errorf("the printed secret does not verify the event: %v: %v %s", err, sent.header, sent.body)
	}
	if len(got) > 0 {
		t.Errorf("%d more events came of one test", len(got))
	}
	refused("no webhook", "test", "ab")
	do("delete", id)
	refused("no webhook", "delete", id)
}
