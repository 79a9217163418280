package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// Secrets that no line has at any level: of prompts, answers and keys.
const secretPrompt, secretAnswer, secretKey = "secret-prompt", "secret-answer", "sk-secret-key"

// logged keeps what is logged, at every level.
type logged struct {
	mu    sync.Mutex
	out   bytes.Buffer
	lines []string // of info and above
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithGroup(string) slog.Handler            { return l }
func (l *logged) WithAttrs(attrs []slog.Attr) slog.Handler { return withAttrs{l, attrs} }
func (l *logged) Handle(ctx context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	begin := l.out.Len()
	err := slog.NewTextHandler(&l.out, &slog.HandlerOptions{Level: slog.LevelDebug}).Handle(ctx, r)
	if r.Level >= slog.LevelInfo {
		l.lines = append(l.lines, l.out.String()[begin:])
	}
	return err
}

// withAttrs is a logged with attributes.
type withAttrs struct {
	*logged
	attrs []slog.Attr
}

func (w withAttrs) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withAttrs{w.logged, append(w.attrs[:len(w.attrs):len(w.attrs)], attrs...)}
}

func (w withAttrs) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(w.attrs...)
	return w.logged.Handle(ctx, r)
}

// badEndpoint answers each model in its own way, and repeats key and prompt in what it
// says of errors.
func badEndpoint(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var body struct{ Model string }
	_ = json.Unmarshal(raw, &body)
	say := func(status int) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": r.Header.Get("Authorization") + " asked " + string(raw)}})
	}
	switch attempt, _ := strconv.Atoi(r.Header.Get("X-Fusillade-Attempt")); {
	case body.Model == "bad":
		say(http.StatusBadRequest)
	case body.Model == "storm" && attempt < 2:
		say(http.StatusInternalServerError)
	case body.Model == "refused":
		say(http.StatusUnauthorized)
	case body.Model == "down":
		panic(http.ErrAbortHandler)
	default:
		_, _ = io.WriteString(w, testenv.ChatAnswer(secretAnswer))
	}
}

// logsOf runs a batch of n requests for each model, and returns what was logged.
func logsOf(t *testing.T, n int) *logged {
	t.Helper()
	c := newCluster(t, mock.Settings{})
	endpoint := httptest.NewUnstartedServer(http.HandlerFunc(badEndpoint))
	endpoint.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	endpoint.Start()
	t.Cleanup(endpoint.Close)
	c.set(&c.settings.Upstream.URL, endpoint.URL)
	c.set(&c.settings.Upstream.APIKey, secretKey)
	c.set(&c.settings.MaxRetries, "3")
	c.set(&c.settings.StatusLogInterval, "none")
	c.set(&c.settings.Server.Auth, "none")
	all := &logged{}
	func() {
		resources, err := Connect(t.Context(), "standalone", &c.settings.Process, &c.settings.Daemon, slog.New(all))
		if err != nil {
			t.Fatal(err)
		}
		defer resources.Close()
		server, err := NewAPI(resources, c.settings.API())
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taking, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		running.Go(func() { _ = server.Run(taking, listener) })
		running.Go(func() { _ = Standalone(taking, context.Background(), resources, &c.settings, nil) })
		api := "http://" + listener.Addr().String()
		for _, model := range []string{"fine", "bad", "storm", "down"} {
			c.AwaitStatus(uploaded(t, api, n, model))
		}
		refused := uploaded(t, api, n, "refused")
		testenv.Eventually(t, "calls are held", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return strings.Contains(all.out.String(), "calls are held")
		})
		post(t, api+"/v1/batches/"+refused.String()+"/cancel", "application/json", strings.NewReader("{}"))
		c.AwaitStatus(refused)
	}()
	return all
}

func uploaded(t *testing.T, api string, n int, model string) batch.ID {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("purpose", "batch")
	file, _ := form.CreateFormFile("file", "requests.jsonl")
	for i := range n {
		fmt.Fprintf(file, `{"custom_id":"r-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":%q}]}}`+"\n", i, model, secretPrompt)
	}
	_ = form.Close()
	id := post(t, api+"/v1/files", form.FormDataContentType(), &body)
	created, err := batch.ParseID(post(t, api+"/v1/batches", "application/json", strings.NewReader(
		fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, id))))
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func post(t *testing.T, url, contentType string, body io.Reader) string {
	t.Helper()
	resp, err := fresh.Post(url, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d: %v", url, resp.StatusCode, err)
	}
	return answer.ID
}

// What is logged does not grow with the requests, whatever becomes of them, and holds
// no prompt, answer or key at any level.
func TestLogs(t *testing.T) {
	t.Parallel()
	few, many := logsOf(t, 20), logsOf(t, 400)
	const noise = 6 // lines of what depends on time, such as of a probe more
	if len(many.lines) > len(few.lines)+noise {
		t.Errorf("20 times the requests have %d lines instead of %d:\n%s", len(many.lines), len(few.lines), strings.Join(many.lines, ""))
	}
	for _, want := range []string{
		`msg="a call failed; more like it are counted" model=bad reason=non_retriable_http_status status=400`,
		`msg="a call failed; more like it are counted" model=down reason=network_error`,
		`msg="calls are held: the endpoint refuses every one" model=refused`, `msg="batch created" batch_id=batch_`, `msg="batch canceled" batch_id=batch_`,
	} {
		if !strings.Contains(strings.Join(many.lines, ""), want) {
			t.Errorf("nothing says %s:\n%s", want, strings.Join(many.lines, ""))
		}
	}
	for _, secret := range []string{secretPrompt, secretAnswer, secretKey} {
		if i := strings.Index(many.out.String(), secret); i >= 0 {
			t.Errorf("%s was logged: %s", secret, many.out.String()[max(i-500, 0):i+20])
		}
	}
}
