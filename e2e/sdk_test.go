package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"

	"fusillade/internal/mock"
)

// service is a cluster with an API.
type service struct {
	*cluster
	url string // with /v1
}

func newService(t *testing.T, answers mock.Settings, settings ...string) *service {
	t.Helper()
	c := newCluster(t, answers, append(settings, "FUSILLADE_LISTEN_ADDR=127.0.0.1:0", "FUSILLADE_API_AUTH=keys")...)
	c.start("dispatcher")
	c.start("consumer")
	c.server = c.start("api").URL(t)
	return &service{c, c.server + "/v1"}
}

// key makes a key of an owner.
func (s *service) key(owner string) string { return s.run("keys", "create", "--owner", owner) }

// request is a line of an input file.
func request(customID, model string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":"hello"}]}}`+"\n", customID, model)
}

func lines(n int, model string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(request(fmt.Sprintf("r%d", i), model))
	}
	return b.String()
}

// sdk is an unmodified client of OpenAI's.
func (s *service) sdk(key string, options ...option.RequestOption) openai.Client {
	transport := &http.Transport{}
	s.t.Cleanup(transport.CloseIdleConnections)
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(s.url), option.WithAPIKey(key), option.WithHTTPClient(&http.Client{Transport: transport}),
	}, options...)...)
}

func uploadParams(content string) openai.FileNewParams {
	return openai.FileNewParams{File: openai.File(strings.NewReader(content), "requests.jsonl", "application/jsonl"), Purpose: openai.FilePurposeBatch}
}

func batchParams(file string) openai.BatchNewParams {
	return openai.BatchNewParams{
		InputFileID: file, Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions,
		CompletionWindow: openai.BatchNewParamsCompletionWindow24h,
	}
}

// The life of a batch, as a user of OpenAI's SDK has it.
func TestSDKBatch(t *testing.T) {
	t.Parallel()
	s := newService(t, mock.Settings{Errors: "400=0.2"})
	c, ctx := s.sdk(s.key("alice")), t.Context()
	const n = 60
	content := lines(n, "gpt-4")

	params := uploadParams(content)
	params.ExpiresAfter.Seconds = 7200
	file, err := c.Files.New(ctx, params)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(file.ID, "file-") || file.Bytes != int64(len(content)) || file.Filename != "requests.jsonl" ||
		file.Purpose != openai.FileObjectPurposeBatch || file.ExpiresAt != file.CreatedAt+7200 {
		t.Errorf("uploaded file: %s", file.RawJSON())
	}
	if got, err := c.Files.Get(ctx, file.ID); err != nil || got.RawJSON() != file.RawJSON() {
		t.Errorf("retrieved file: %v, %v", got, err)
	}

	create := batchParams(file.ID)
	create.Metadata = map[string]string{"night": "shift"}
	b, err := c.Batches.New(ctx, create)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.ID, "batch_") || b.Status != openai.BatchStatusInProgress || b.InputFileID != file.ID ||
		b.CompletionWindow != "24h" || b.ExpiresAt != b.CreatedAt+24*3600 || b.Metadata["night"] != "shift" ||
		b.RequestCounts.Total != n || b.OutputFileID != "" || b.ErrorFileID != "" {
		t.Errorf("created batch: %s", b.RawJSON())
	}
	poll(t, "the batch is completed", func() bool {
		if b, err = c.Batches.Get(ctx, b.ID); err != nil {
			t.Fatal(err)
		}
		return b.Status == openai.BatchStatusCompleted
	})
	counts := b.RequestCounts
	if counts.Completed == 0 || counts.Failed == 0 || counts.Completed+counts.Failed != n || b.CompletedAt < b.CreatedAt || b.FinalizingAt == 0 {
		t.Errorf("completed batch: %s", b.RawJSON())
	}
	output, failures := sdkLines(t, c, b.OutputFileID), sdkLines(t, c, b.ErrorFileID)
	if int64(len(output)) != counts.Completed || int64(len(failures)) != counts.Failed {
		t.Errorf("%d and %d lines of output and errors, want %+v", len(output), len(failures), counts)
	}
	seen := make(map[string]bool)
	for _, l := range append(output, failures...) {
		if (l.Error == nil) != (l.Response.StatusCode == 200) || seen[l.CustomID] {
			t.Errorf("line %+v", l)
		}
		seen[l.CustomID] = true
	}
	if len(seen) != n {
		t.Errorf("%d custom ids, want %d", len(seen), n)
	}
	for _, id := range []string{b.OutputFileID, b.ErrorFileID, file.ID} {
		if deleted, err := c.Files.Delete(ctx, id); err != nil || !deleted.Deleted || deleted.ID != id {
			t.Errorf("deleting %s: %v, %v", id, deleted, err)
		}
		_, err := c.Files.Get(ctx, id)
		wantStatus(t, err, http.StatusNotFound)
	}
}

type outputLine struct {
	ID       string
	CustomID string `json:"custom_id"`
	Response struct {
		StatusCode int `json:"status_code"`
		Body       json.RawMessage
	}
	Error *struct{ Code, Message string }
}

func sdkLines(t *testing.T, c openai.Client, file string) (out []outputLine) {
	t.Helper()
	resp, err := c.Files.Content(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var l outputLine
		if err := d.Decode(&l); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
}

// told is what the SDK knows about an error.
type told struct{ message, param, code string }

func wantStatus(t *testing.T, err error, status int) told {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want status %d", err, status)
	}
	if e.StatusCode != status || e.Message == "" || e.Type == "" {
		t.Errorf("error %s with status %d, want status %d", e.RawJSON(), e.StatusCode, status)
	}
	return told{e.Message, e.Param, e.Code}
}

// Lists are walked to their end, whatever the page size.
func TestSDKPaging(t *testing.T) {
	t.Parallel()
	s := newService(t, mock.Settings{Latency: "hang"})
	c, ctx := s.sdk(s.key("alice")), t.Context()
	other := s.sdk(s.key("bob"))
	var files, batches []string
	for i := range 7 {
		f, err := c.Files.New(ctx, uploadParams(request(fmt.Sprint(i), "m")))
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Batches.New(ctx, batchParams(f.ID))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Files.New(ctx, uploadParams(request("x", "m"))); err != nil {
			t.Fatal(err)
		}
		files, batches = append(files, f.ID), append(batches, b.ID)
	}
	for _, limit := range []int64{1, 2, 3, 6, 7, 8, 100} {
		for _, order := range []openai.FileListParamsOrder{openai.FileListParamsOrderAsc, openai.FileListParamsOrderDesc} {
			var got []string
			pager := c.Files.ListAutoPaging(ctx, openai.FileListParams{Limit: param.NewOpt(limit), Order: order})
			for pager.Next() {
				got = append(got, pager.Current().ID)
			}
			if order == openai.FileListParamsOrderDesc {
				slices.Reverse(got)
			}
			if pager.Err() != nil || !slices.Equal(got, files) {
				t.Errorf("limit %d, %s: files %v, want %v (%v)", limit, order, got, files, pager.Err())
			}
		}
		var got []string
		pager := c.Batches.ListAutoPaging(ctx, openai.BatchListParams{Limit: param.NewOpt(limit)})
		for pager.Next() {
			got = append(got, pager.Current().ID)
		}
		slices.Reverse(got)
		if pager.Err() != nil || !slices.Equal(got, batches) {
			t.Errorf("limit %d: batches %v, want %v (%v)", limit, got, batches, pager.Err())
		}
	}
}

// A cancelled batch ends at once; what was not called is in its error file.
func TestSDKCancel(t *testing.T) {
	t.Parallel()
	s := newService(t, mock.Settings{Latency: "hang"})
	c, ctx := s.sdk(s.key("alice")), t.Context()
	const n = 50
	file, err := c.Files.New(ctx, uploadParams(lines(n, "gpt-4")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Batches.New(ctx, batchParams(file.ID))
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "calls are in flight", func() bool { return s.mock.Stats().InFlight > 0 })
	if b, err = c.Batches.Cancel(ctx, b.ID); err != nil {
		t.Fatal(err)
	}
	if b.Status != openai.BatchStatusCancelled || b.CancellingAt == 0 || b.CancelledAt < b.CancellingAt {
		t.Errorf("cancelled batch: %s", b.RawJSON())
	}
	lines := sdkLines(t, c, b.ErrorFileID)
	if len(lines) != n {
		t.Errorf("%d lines in the error file, want %d", len(lines), n)
	}
	for _, l := range lines {
		if l.Error == nil || l.Error.Code != "batch_cancelled" {
			t.Errorf("line %+v", l)
		}
	}
	again, err := c.Batches.Cancel(ctx, b.ID)
	if err != nil || again.Status != openai.BatchStatusCancelled || again.CancelledAt != b.CancelledAt {
		t.Errorf("a second cancel: %v, %s", err, again.RawJSON())
	}
}

// Errors come as the SDK's own, with what it knows about them.
func TestSDKErrors(t *testing.T) {
	t.Parallel()
	s := newService(t, mock.Settings{})
	c, ctx := s.sdk(s.key("alice")), t.Context()
	const unknown = "00000000000000000000000000000001"

	_, err := c.Files.Get(ctx, "file-"+unknown)
	wantStatus(t, err, http.StatusNotFound)
	_, err = c.Batches.Get(ctx, "batch_"+unknown)
	wantStatus(t, err, http.StatusNotFound)
	_, err = c.Batches.New(ctx, batchParams("file-"+unknown))
	if e := wantStatus(t, err, http.StatusNotFound); e.param != "input_file_id" {
		t.Errorf("param %q", e.param)
	}
	_, err = c.Files.New(ctx, uploadParams(request("a", "m")+"oops\n"))
	if e := wantStatus(t, err, http.StatusBadRequest); !strings.Contains(e.message, "line 2") {
		t.Errorf("message %q", e.message)
	}
	stranger := s.sdk("sk-wrong")
	_, err = stranger.Files.List(ctx, openai.FileListParams{})
	if e := wantStatus(t, err, http.StatusUnauthorized); e.code != "invalid_api_key" {
		t.Errorf("code %q", e.code)
	}
	_, err = c.Files.New(ctx, openai.FileNewParams{File: strings.NewReader(request("a", "m")), Purpose: openai.FilePurposeFineTune})
	if e := wantStatus(t, err, http.StatusBadRequest); e.param != "purpose" {
		t.Errorf("param %q", e.param)
	}
}

// A client that is told to wait does, and gets through.
func TestSDKRetriesWhenTold(t *testing.T) {
	t.Parallel()
	s := newService(t, mock.Settings{Latency: "hang"}, "FUSILLADE_MAX_ACTIVE_BATCHES=1")
	ctx := t.Context()
	var refused atomic.Int64
	first := make(chan string, 1)
	c := s.sdk(s.key("alice"), option.WithMaxRetries(5), option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		if err == nil && resp.StatusCode == http.StatusTooManyRequests {
			if refused.Add(1); resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			select { // room is made after the first refusal
			case id := <-first:
				owner := s.sdk(s.key("alice"))
				if _, err := owner.Batches.Cancel(ctx, id); err != nil {
					t.Error(err)
				}
			default:
			}
		}
		return resp, err
	}))
	file, err := c.Files.New(ctx, uploadParams(lines(3, "m")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Batches.New(ctx, batchParams(file.ID))
	if err != nil {
		t.Fatal(err)
	}
	first <- b.ID
	if _, err := c.Batches.New(ctx, batchParams(file.ID)); err != nil {
		t.Fatal(err)
	}
	if refused.Load() == 0 {
		t.Error("the second batch was not refused")
	}
}
