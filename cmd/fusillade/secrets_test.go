package main

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

// After a rotation everything opens with the new key alone, and what no key
// opens is named and left.
func TestSecretsReencrypt(t *testing.T) {
	key := func(fill string) string { return strings.Repeat(fill, seal.KeyBytes) }
	first, second, other := key("01"), key("02"), key("03")
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", first)
	t.Setenv("A_KEY", "sk-secret")
	s := newServer(t, nil).Store
	reencrypt := func(keys string, wantCode int, wants ...string) {
		t.Helper()
		t.Setenv("FUSILLADE_ENCRYPTION_KEY", keys)
		code, out, message := command(t, "secrets", "reencrypt")
		if code != wantCode || strings.Contains(out+message, "sk-") {
			t.Errorf("exit code %d, want %d:\n%s%s", code, wantCode, out, message)
		}
		for _, want := range wants {
			if !strings.Contains(message, want) {
				t.Errorf("the message lacks %q:\n%s", want, message)
			}
		}
	}
	do := func(args ...string) string {
		t.Helper()
		code, out, message := command(t, args...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, message)
		}
		return strings.TrimSpace(out)
	}
	reencrypt(second, 0, "0 encrypted anew, 0 were already")
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", first)
	do("models", "set", "m", "--upstream", "http://one", "--api-key-env", "A_KEY")
	do("models", "set", "without-key", "--upstream", "http://one")
	secret := do("webhooks", "create", "--owner", "alice", "--url", "http://hook")
	id := bringBatch(t, do("files", "upload", write(t, "in.jsonl", goodLines(1))), "sk-batch")

	reencrypt(second, cli.ExitFailed, `model "m"`, "webhook", id, seal.ErrOtherKey.Error(), "5 are left")
	reencrypt(second+","+first, 0, "5 encrypted anew, 0 were already")
	reencrypt(second+","+first, 0, "0 encrypted anew, 5 were already")
	reencrypt(first, cli.ExitFailed, "5 are left")
	wantSecrets(t, s, second, id, "sk-secret", secret, "sk-batch")
	reencrypt(other, cli.ExitFailed, "5 are left")
	wantSecrets(t, s, second, id, "sk-secret", secret, "sk-batch")
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", "")
	if code, _, message := command(t, "secrets", "reencrypt"); code != cli.ExitUsage || !strings.Contains(message, "FUSILLADE_ENCRYPTION_KEY") {
		t.Errorf("exit code %d without a key: %s", code, message)
	}
}

// bringBatch creates a batch that brings a key.
func bringBatch(t *testing.T, file, key string) (id string) {
	t.Helper()
	body := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, file)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, os.Getenv("FUSILLADE_SERVER")+"/v1/batches", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Upstream-Api-Key", key)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	_, list, _ := command(t, "batches", "ls")
	return strings.Fields(strings.Split(list, "\n")[1])[0]
}

// wantSecrets opens everything with one key.
func wantSecrets(t *testing.T, s *postgres.Store, key, batchID, model, webhook, brought string) {
	t.Helper()
	raw, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := seal.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := func(about string, sealed []byte, secret string) {
		t.Helper()
		if got, err := keyring.Open(about, sealed); err != nil || got != secret {
			t.Errorf("%s: %v", about, err)
		}
	}
	models, err := s.ModelUpstreams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want(seal.ModelKey("m", "http://one", ""), models["m"].Key, model)
	hooks, err := s.WebhooksWithSecrets(t.Context())
	if err != nil || len(hooks) != 1 {
		t.Fatal(len(hooks), err)
	}
	want(seal.WebhookSecret(hooks[0].ID, hooks[0].URL), hooks[0].Secret, webhook)
	id, err := batch.ParseID(batchID)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.BatchKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want(seal.BatchKey(batchID), sealed, brought)
	sealed, err = s.KeyFingerprint(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(seal.BatchKeyFingerprint(batchID), sealed); err != nil {
		t.Errorf("the fingerprint of the batch's key: %v", err)
	}
}
