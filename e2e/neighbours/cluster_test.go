//go:build neighbours && unix

package neighbours

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"fusillade/internal/embedded"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// model is the one that the quiet owner uses, and most of the neighbours.
const (
	model = "gpt-4"
	limit = 8 // calls in flight
)

// built is where the programs under test are.
var built programs.Dir

func TestMain(m *testing.M) {
	programs.Main(m, &built, func() (programs.Dir, error) { return programs.Build("../..", "neighbours", programs.Commands) })
}

// cluster is a database, a broker, an endpoint, a dispatcher, two consumers and
// an API that asks for keys.
type cluster struct {
	t        *testing.T
	env      []string
	endpoint *endpoint
	api      string
	broker   *embedded.NATS
	pids     []int // of the programs
	client   *http.Client
}

// roles are of the cluster's programs, in the order of their pids.
var roles = []string{"dispatcher", "consumer", "consumer", "api"}

func newCluster(t *testing.T, settings ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, endpoint: newEndpoint(t), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(c.client.CloseIdleConnections)
	c.broker = testenv.NATS(t)
	c.env = programs.Environment(
		"FUSILLADE_DATABASE_URL="+testenv.DatabaseURL(t), "FUSILLADE_NATS_URL="+c.broker.URL(),
		"FUSILLADE_UPSTREAM_URL="+c.endpoint.url, "FUSILLADE_UPSTREAM_API_KEY=sk-shared",
		fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", limit), "FUSILLADE_API_AUTH=keys",
		"FUSILLADE_ENCRYPTION_KEY="+strings.Repeat("ab", 32), "FUSILLADE_DATABASE_MAX_CONNS=6", "FUSILLADE_STATUS_LOG_INTERVAL_MS=none")
	c.env = append(c.env, settings...)
	for _, role := range roles[:len(roles)-1] {
		c.pids = append(c.pids, built.Start(t, c.env, role).PID())
	}
	api := built.Start(t, append(c.env[:len(c.env):len(c.env)], "FUSILLADE_LISTEN_ADDR=127.0.0.1:0"), "api")
	c.pids = append(c.pids, api.PID())
	c.api = api.URL(t) + "/v1"
	return c
}

// owner is who calls the API with a key of their own.
type owner struct {
	*cluster
	name, key string
}

func (c *cluster) owner(name string) *owner {
	c.t.Helper()
	key, err := built.Run(c.t.Context(), c.env, "keys", "create", "--owner", name)
	if err != nil {
		c.t.Fatalf("a key for %s: %v", name, err)
	}
	return &owner{c, name, key}
}

// call makes one request to the API and decodes its answer.
func (o *owner) call(ctx context.Context, method, path string, body io.Reader, header http.Header, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, o.api+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+o.key)
	resp, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: status %d: %.300s", method, path, resp.StatusCode, raw)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(raw, answer)
	}
	return err
}

type object struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// upload stores n requests, whose models take turns and whose custom ids begin
// with the owner's name.
func (o *owner) upload(ctx context.Context, n int, models ...string) (object, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("purpose", "batch")
	w, err := form.CreateFormFile("file", "requests.jsonl")
	if err != nil {
		return object{}, err
	}
	for i := range n {
		fmt.Fprintf(w, `{"custom_id":"%s-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[]}}`+"\n", o.name, i, models[i%len(models)])
	}
	if err := form.Close(); err != nil {
		return object{}, err
	}
	var file object
	err = o.call(ctx, http.MethodPost, "/files", &body, http.Header{"Content-Type": {form.FormDataContentType()}}, &file)
	return file, err
}

// begin begins a batch of a file. upstreamKey is its own key for the endpoint, if
// it is not empty.
func (o *owner) begin(ctx context.Context, file object, upstreamKey string) (object, error) {
	var b object
	header := http.Header{}
	if upstreamKey != "" {
		header.Set("X-Upstream-Api-Key", upstreamKey)
	}
	body := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, file.ID)
	err := o.call(ctx, http.MethodPost, "/batches", strings.NewReader(body), header, &b)
	return b, err
}

// must begins a batch of n requests.
func (o *owner) must(n int, models ...string) object {
	o.t.Helper()
	file, err := o.upload(o.t.Context(), n, models...)
	if err != nil {
		o.t.Fatal(err)
	}
	b, err := o.begin(o.t.Context(), file, "")
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// small is how many requests the quiet owner's batch has.
const small = 40

// once uploads a small batch, waits until it has finished, and returns how long
// all of that took.
func (o *owner) once() time.Duration {
	o.t.Helper()
	began := time.Now()
	o.finish(2*time.Minute, o.must(small, model))
	return time.Since(began)
}

// finish waits until a batch is completed.
func (o *owner) finish(patience time.Duration, b object) {
	o.t.Helper()
	testenv.Until(o.t, patience, "the batch is completed", func() bool {
		if err := o.call(o.t.Context(), http.MethodGet, "/batches/"+b.ID, nil, nil, &b); err != nil {
			o.t.Fatal(err)
		}
		return b.Status == "completed"
	})
}
