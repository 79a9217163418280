package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// natsUsers is deploy/nats/server.conf without what is of its machine.
func natsUsers(t *testing.T) string {
	t.Helper()
	text, _, found := strings.Cut(read(t, "../deploy/nats/server.conf"), "\nlisten:")
	if !found {
		t.Fatal("server.conf says nowhere where it listens")
	}
	permissions, err := filepath.Abs("../deploy/nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, "include permissions.conf", read(t, permissions), 1)
	for _, role := range roles {
		variable := "$" + strings.ToUpper(role) + "_PASSWORD"
		if !strings.Contains(text, variable) {
			t.Fatalf("server.conf has no user with the password %s", variable)
		}
		text = strings.ReplaceAll(text, variable, password(role))
	}
	return text
}

func password(role string) string { return "of-the-" + role }

// The whole pipeline runs with the privileges of deploy/nats and deploy/postgres:
// neither server refuses anything.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	s := newSecured(t, natsUsers(t))
	t.Cleanup(s.wantNothingRefused)
	key := func(fill string) string { return strings.Repeat(fill, seal.KeyBytes) }
	first, second := key("01"), key("02")
	c := s.cluster(mock.Settings{Latency: "uniform:5ms-20ms", Errors: "503=0.03"},
		"FUSILLADE_ENCRYPTION_KEY="+first, "FUSILLADE_WEBHOOK_ALLOW_PRIVATE=true", "FUSILLADE_PURGE_INTERVAL_MS=200", "FUSILLADE_PURGE_THROTTLE_MS=0",
		"FUSILLADE_DEFAULT_MODEL_CONCURRENCY=16", "FUSILLADE_MODEL_CONCURRENCY_LIMITS=auto-model=auto:2-16", "FUSILLADE_MODEL_RATE_LIMITS=rated=60000rpm/90000000tpm",
		"FUSILLADE_MODEL_ESCALATIONS=slow=fast@900s", "FUSILLADE_MODEL_IDLE_MS=1500", "FUSILLADE_CANCELLATION_POLL_INTERVAL_MS=200",
		"FUSILLADE_HOLD_AFTER_REFUSALS=3", "FUSILLADE_PROBE_INTERVAL_MS=200", "FUSILLADE_CLAIM_TIMEOUT_MS=2000")
	as := func(role string) *cluster {
		return s.as(c, role, "FUSILLADE_NATS_URL="+strings.Replace(s.broker, "://", "://"+role+":"+password(role)+"@", 1))
	}
	operator := as("operator")
	dispatchers := []*programs.Process{as("dispatcher").start("dispatcher"), as("dispatcher").start("dispatcher")}
	consumers := []*programs.Process{as("consumer").start("consumer"), as("consumer").start("consumer")}
	api := as("api")
	api.env = append(api.env, "FUSILLADE_LISTEN_ADDR=127.0.0.1:0", "FUSILLADE_API_AUTH=keys")
	apiProcess := api.start("api")
	server := apiProcess.URL(t)
	people := func(key string) *cluster {
		with := *c
		with.env = append(slices.Clone(c.env), "FUSILLADE_SERVER="+server, "FUSILLADE_API_KEY="+key, "OWN_KEY=sk-of-the-batch")
		return &with
	}

	// The operator makes keys, weights, webhooks and endpoints.
	aliceKey := operator.run("keys", "create", "--owner", "alice")
	opsKey := operator.run("keys", "create", "--owner", "ops", "--admin")
	alice, ops := people(aliceKey), people(opsKey)
	operator.run("keys", "create", "--owner", "bob")
	operator.run("keys", "ls")
	operator.run("owners", "set", "alice", "--weight", "3")
	operator.run("owners", "ls")
	var delivered atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			delivered.Add(1)
		}
	}))
	t.Cleanup(hook.Close)
	operator.run("webhooks", "create", "--owner", "alice", "--url", hook.URL)
	operator.run("webhooks", "ls")
	operator.env = append(operator.env, "MODEL_KEY=sk-of-the-model")
	operator.run("models", "set", "keyed", "--upstream", upstreamOf(c), "--api-key-env", "MODEL_KEY")
	ops.run("models", "set", "plain", "--limit", "8")
	ops.run("models", "pause", "plain")

	// Batches: of all kinds of models, with a key of their own, with a priority.
	const n = 400
	whole := create(alice, requests(t, n, "plain", "auto-model", "rated", "keyed", "slow"), "--priority", "5")
	own := create(alice, requests(t, 20, "plain"), "--api-key-env", "OWN_KEY")
	c.await(whole, "some are done", func(b postgres.Batch) bool { return b.Counts.Done() > n/4 })
	ops.run("models", "ls")
	ops.run("models", "demand")
	ops.run("daemons", "ls", "--all")
	ops.run("models", "resume", "plain")
	alice.run("batches", "get", whole.String())
	consumers[0].Kill() // and the other one goes on with what it was calling
	c.awaitEnd(whole)
	c.awaitEnd(own)
	c.check(whole)
	alice.run("batches", "ls")
	alice.run("files", "ls")
	alice.run("batches", "results", whole.String(), "-o", filepath.Join(t.TempDir(), "out.jsonl"))

	// Cancel, rerun, expire, delete.
	configure(c, mock.Settings{Latency: "hang"})
	stopped := create(alice, requests(t, n, "plain", "gpt-4o-mini"))
	// Of models on more streams than one.
	poll(t, "messages are in flight", func() bool {
		taken := takenByModel(t, ops.run("models", "ls", "--json"))
		return taken["plain"] && taken["gpt-4o-mini"]
	})
	alice.run("batches", "cancel", stopped.String(), "--line", "400")
	alice.run("batches", "cancel", stopped.String())
	ops.run("models", "pause", "plain")
	late := create(alice, requests(t, 50, "plain"), "--completion-window", "2s")
	c.await(late, "it has expired", func(b postgres.Batch) bool { return b.Status == batch.StatusExpired })
	ops.run("models", "resume", "plain")
	configure(c, mock.Settings{Errors: "401=1"})
	alice.run("batches", "rerun", stopped.String(), "--canceled")
	poll(t, "the model is held", func() bool { return strings.Contains(ops.run("models", "ls"), "unauthorized") })
	for _, model := range []string{"plain", "gpt-4o-mini"} { // whichever is held
		ops.run("models", "lift", model)
	}
	configure(c, mock.Settings{})
	c.awaitEnd(stopped)
	alice.run("batches", "errors", stopped.String())
	uploadInParts(c, server, aliceKey, read(t, requests(t, 3, "plain")))
	s.wantDashboards("alice")
	dashboard := visit(t, server, opsKey)
	about := "/ui/batches/" + whole.String()
	dashboard.wantPages("/ui/", "/ui/batches", about, "/ui/files", "/ui/models", "/ui/daemons", "/ui/keys", "/ui/webhooks", "/ui/owners")
	visit(t, server, aliceKey).wantPages(about, about+"/requests", about+"/requests/1")
	for _, id := range []batch.ID{whole, late} {
		alice.run("batches", "delete", id.String())
		poll(t, "nothing is left of the batch", func() bool { return checker.Erased(t.Context(), c.db, id) == nil })
	}
	poll(t, "a webhook was delivered for each batch that ended", func() bool { return delivered.Load() >= 4 })

	// The encryption key is rotated.
	operator.env = append(operator.env, "FUSILLADE_ENCRYPTION_KEY="+second+","+first)
	operator.run("secrets", "reencrypt")
	operator.run("keys", "revoke", keyOf(t, operator, "bob"))
	for _, p := range slices.Concat(dispatchers, consumers[1:]) {
		p.Signal(syscall.SIGTERM)
		p.WantExit(t, 0)
	}
	s.wantNothingRefused()
	s.wantActions(dashboard)
	s.wantAllUsed()
	apiProcess.Signal(syscall.SIGTERM)
	apiProcess.WantExit(t, 0)
	s.wantDenied()
}

// upstreamOf is the URL of the mock.
func upstreamOf(c *cluster) (found string) {
	for _, v := range c.env {
		if value, ok := strings.CutPrefix(v, "FUSILLADE_UPSTREAM_URL="); ok {
			found = value
		}
	}
	return found
}

func create(c *cluster, path string, flags ...string) batch.ID {
	c.t.Helper()
	id, err := batch.ParseID(c.run(append([]string{"batches", "create", path}, flags...)...))
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// takenByModel says of which models messages are in flight.
func takenByModel(t *testing.T, lines string) map[string]bool {
	t.Helper()
	taken := make(map[string]bool)
	for line := range strings.Lines(lines) {
		var m struct {
			ID    string `json:"id"`
			Taken int    `json:"taken"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		taken[m.ID] = m.Taken > 0
	}
	return taken
}

// keyOf is the id of an owner's key.
func keyOf(t *testing.T, operator *cluster, owner string) string {
	t.Helper()
	for line := range strings.Lines(operator.run("keys", "ls")) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(fields, owner) {
			return fields[0]
		}
	}
	t.Fatalf("%s has no key", owner)
	return ""
}

func configure(c *cluster, answers mock.Settings) {
	c.t.Helper()
	if err := c.mock.Configure(answers); err != nil {
		c.t.Fatal(err)
	}
}

// uploadInParts stores a file with OpenAI's Uploads API, and gives up another.
func uploadInParts(c *cluster, server, key, content string) {
	c.t.Helper()
	post := func(path, contentType string, body []byte) (answer struct {
		ID string `json:"id"`
	}) {
		c.t.Helper()
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, server+"/v1/uploads"+path, bytes.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", contentType)
		resp, err := httpClient.Do(req)
		if err != nil {
			c.t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(raw, &answer) != nil {
			c.t.Fatalf("POST %s: %d %s, %v", path, resp.StatusCode, raw, err)
		}
		return answer
	}
	begin := fmt.Appendf(nil, `{"filename":"parts.jsonl","purpose":"batch","mime_type":"application/jsonl","bytes":%d}`, len(content))
	whole, abandoned := post("", "application/json", begin).ID, post("", "application/json", begin).ID
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	data, err := w.CreateFormFile("data", "part")
	if err == nil {
		_, err = data.Write([]byte(content))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		c.t.Fatal(err)
	}
	part := post("/"+whole+"/parts", w.FormDataContentType(), form.Bytes()).ID
	post("/"+whole+"/complete", "application/json", fmt.Appendf(nil, `{"part_ids":[%q]}`, part))
	post("/"+abandoned+"/cancel", "application/json", nil)
}

var httpClient = &http.Client{Timeout: testenv.Patience}
