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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// model is the one that the quiet owner uses, and most of the neighbours.
const (
	model = "gpt-4"
	limit = 8 // calls in flight
)

// programs is where the binaries under test are.
var programs string

func TestMain(m *testing.M) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "build", "neighbours"))
	if err == nil {
		cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "fusillade/cmd/...")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the programs:", err)
		os.Exit(1)
	}
	programs = dir
	testenv.Main(m)
}

// cluster is a database, a broker, an endpoint, a dispatcher, two consumers and
// an API that asks for keys.
type cluster struct {
	t        *testing.T
	env      []string
	endpoint *endpoint
	api      string
	client   *http.Client
}

func newCluster(t *testing.T, settings ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, endpoint: newEndpoint(t), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(c.client.CloseIdleConnections)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FUSILLADE_") {
			c.env = append(c.env, v)
		}
	}
	c.env = append(c.env,
		"FUSILLADE_DATABASE_URL="+testenv.DatabaseURL(t), "FUSILLADE_NATS_URL="+testenv.NATS(t).URL(),
		"FUSILLADE_UPSTREAM_URL="+c.endpoint.url, "FUSILLADE_UPSTREAM_API_KEY=sk-shared",
		fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", limit), "FUSILLADE_API_AUTH=keys",
		"FUSILLADE_ENCRYPTION_KEY="+strings.Repeat("ab", 32), "FUSILLADE_DATABASE_MAX_CONNS=6", "FUSILLADE_STATUS_LOG_INTERVAL_MS=none")
	c.env = append(c.env, settings...)
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	said := c.start("api", "FUSILLADE_LISTEN_ADDR=127.0.0.1:0")
	listening := regexp.MustCompile(`"msg":"listening","addr":"([^"]+)"`)
	testenv.Eventually(t, "the API listens", func() bool {
		found := listening.FindStringSubmatch(said.String())
		if found != nil {
			c.api = "http://" + found[1] + "/v1"
		}
		return found != nil
	})
	return c
}

// start runs a program until the end of the test, and shows its log if the test
// failed.
func (c *cluster) start(name string, extra ...string) *output {
	c.t.Helper()
	said := new(output)
	cmd := exec.Command(filepath.Join(programs, name))
	cmd.Env, cmd.Stdout, cmd.Stderr = append(c.env[:len(c.env):len(c.env)], extra...), said, said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if c.t.Failed() {
			text := said.String()
			c.t.Logf("%s said:\n%s", name, text[max(len(text)-4000, 0):])
		}
	})
	return said
}

// output is what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// owner is who calls the API with a key of their own.
type owner struct {
	*cluster
	name, key string
}

func (c *cluster) owner(name string) *owner {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testenv.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "fusillade"), "keys", "create", "--owner", name)
	cmd.Env = c.env
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("a key for %s: %v", name, err)
	}
	return &owner{c, name, strings.TrimSpace(string(out))}
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
	b := o.must(small, model)
	testenv.Until(o.t, 2*time.Minute, "the small batch is completed", func() bool {
		if err := o.call(o.t.Context(), http.MethodGet, "/batches/"+b.ID, nil, nil, &b); err != nil {
			o.t.Fatal(err)
		}
		return b.Status == "completed"
	})
	return time.Since(began)
}
