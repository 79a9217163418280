package jsonl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

// readAll drains a new reader, and checks that its last error is repeated.
func readAll(t testing.TB, source io.Reader, cfg Config) ([]batch.Template, batch.FileSummary, error) {
	t.Helper()
	reader, err := NewReader(source, cfg)
	if err != nil {
		t.Fatalf("NewReader: %v", err)
	}
	var templates []batch.Template
	for {
		template, err := reader.Next()
		if err == nil {
			templates = append(templates, template)
			continue
		}
		if _, again := reader.Next(); again != err {
			t.Fatalf("Next after %v returned %v", err, again)
		}
		return templates, reader.Summary(), err
	}
}

func request(customID string) string {
	return `{"custom_id":"` + customID + `","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}`
}

func TestReaderAccepts(t *testing.T) {
	t.Parallel()
	want := batch.Template{Line: 1, CustomID: "a", Model: "m", Method: "POST", Path: "/v1/chat/completions", Body: []byte(`{"model":"m"}`)}
	with := func(change func(*batch.Template)) batch.Template {
		changed := want
		change(&changed)
		return changed
	}
	for name, test := range map[string]struct {
		input string
		cfg   Config
		want  batch.Template
	}{
		"line end":          {input: request("a") + "\n", want: want},
		"no line end":       {input: request("a"), want: want},
		"CRLF":              {input: request("a") + "\r\n", want: want},
		"CR at the end":     {input: request("a") + "\r", want: want},
		"byte order mark":   {input: "\xef\xbb\xbf" + request("a"), want: want},
		"blank lines count": {input: "\n \t\r\n" + request("a") + "\n\n", want: with(func(w *batch.Template) { w.Line = 3 })},
		"white space": {
			input: " {\t\"custom_id\" : \"a\", \"url\":\"/v1/chat/completions\", \"body\" : { \"model\" :\t\"m\" }\t} ",
			want:  with(func(w *batch.Template) { w.Body = []byte("{ \"model\" :\t\"m\" }") }),
		},
		"method may be absent": {input: `{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"m"}}`, want: want},
		"unknown members":      {input: `{"x":{"model":1},"custom_id":"a","url":"/v1/chat/completions","body":{"model":"m"},"y":[]}`, want: want},
		"any order, escaped names": {
			input: `{"b\u006fdy":{"z":1,"\u006dodel":"m","a":[{"model":2}]},"url":"\/v1\/chat\/completions","custom\u005fid":"\u0061"}`,
			want:  with(func(w *batch.Template) { w.Body = []byte(`{"z":1,"\u006dodel":"m","a":[{"model":2}]}`) }),
		},
		"model of any characters": {
			input: `{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"meta-llama/Llama-3.1:8b instruct \ud83e\udd99.*>"}}`,
			want: with(func(w *batch.Template) {
				w.Model = "meta-llama/Llama-3.1:8b instruct 🦙.*>"
				w.Body = []byte(`{"model":"meta-llama/Llama-3.1:8b instruct \ud83e\udd99.*>"}`)
			}),
		},
		"endpoint of the batch": {input: request("a"), cfg: Config{Endpoint: "/v1/chat/completions"}, want: want},
		"endpoints of one's own": {
			input: strings.Replace(request("a"), "/v1/chat/completions", "/v1/rerank", 1),
			cfg:   Config{Endpoints: []string{"/v1/rerank"}},
			want:  with(func(w *batch.Template) { w.Path = "/v1/rerank" }),
		},
		"longest custom_id": {
			input: request(strings.Repeat("é", 256)),
			want:  with(func(w *batch.Template) { w.CustomID = strings.Repeat("é", 256) }),
		},
		"longest line": {input: request("a") + "\r\n", cfg: Config{Limits: Limits{MaxRequestBytes: len(request("a"))}}, want: want},
		"longest line after a byte order mark": {
			input: "\xef\xbb\xbf" + request("a") + "\r\n",
			cfg:   Config{Limits: Limits{MaxRequestBytes: len(request("a"))}},
			want:  want,
		},
		"largest file":  {input: request("a") + "\n", cfg: Config{Limits: Limits{MaxFileBytes: int64(len(request("a"))) + 1}}, want: want},
		"most requests": {input: request("a") + "\n\n", cfg: Config{Limits: Limits{MaxRequests: 1}}, want: want},
		"most models":   {input: request("a"), cfg: Config{Limits: Limits{MaxModels: 1}}, want: want},
		"other separators": {
			input: "{\"custom_id\":\"a\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"m\",\"x\":\"\u2028\u0085\"}}",
			want:  with(func(w *batch.Template) { w.Body = []byte("{\"model\":\"m\",\"x\":\"\u2028\u0085\"}") }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := readAll(t, iotest.OneByteReader(strings.NewReader(test.input)), test.cfg); err != io.EOF {
				t.Errorf("byte by byte: %v", err)
			}
			got, summary, err := readAll(t, strings.NewReader(test.input), test.cfg)
			if err != io.EOF {
				t.Fatalf("Next: %v", err)
			}
			if diff := cmp.Diff([]batch.Template{test.want}, got); diff != "" {
				t.Error(diff)
			}
			wantSummary := batch.FileSummary{
				Bytes: int64(len(test.input)), Requests: 1, Endpoint: test.want.Path, SHA256: sha256.Sum256([]byte(test.input)),
				Models: []batch.ModelDemand{{Model: test.want.Model, Requests: 1, Bytes: int64(len(test.want.Body))}},
			}
			if diff := cmp.Diff(wantSummary, summary); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReaderMixedEndpoints(t *testing.T) {
	t.Parallel()
	input := request("a") + "\n" + strings.Replace(request("b"), "/v1/chat/completions", "/v1/embeddings", 1)
	templates, summary, err := readAll(t, strings.NewReader(input), Config{AllowMixedEndpoints: true})
	if err != io.EOF || len(templates) != 2 || templates[1].Path != "/v1/embeddings" || summary.Endpoint != "" {
		t.Errorf("got %v, %v, endpoint %q", templates, err, summary.Endpoint)
	}
}

func TestReaderBodyIsSafeToKeepAndAppendTo(t *testing.T) {
	t.Parallel()
	input := strings.Repeat(request("%d")+"\n", 10)
	for i := range 10 {
		input = strings.Replace(input, "%d", fmt.Sprint(i), 1)
	}
	templates, _, err := readAll(t, strings.NewReader(input), Config{})
	if err != io.EOF {
		t.Fatal(err)
	}
	for _, template := range templates {
		_ = append(template.Body, input...)
	}
	for _, template := range templates {
		if string(template.Body) != `{"model":"m"}` {
			t.Errorf("line %d: body is %q", template.Line, template.Body)
		}
	}
}

func TestReaderSourceError(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	for name, test := range map[string]struct {
		input string
		fault error
		want  error
	}{
		"after a good line":   {request("a") + "\n", broken, broken},
		"after a bad line":    {"{}\n", broken, broken},
		"within a line":       {request("a"), broken, broken},
		"at once":             {"", broken, broken},
		"cut short":           {request("a"), io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		"disguised as an end": {request("a") + "\n", fmt.Errorf("proxy: %w", io.EOF), io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := readAll(t, io.MultiReader(strings.NewReader(test.input), iotest.ErrReader(test.fault)), Config{})
			var invalid *InvalidFileError
			if !errors.Is(err, test.want) || errors.Is(err, io.EOF) || errors.As(err, &invalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderSourceWithoutProgress(t *testing.T) {
	t.Parallel()
	if _, _, err := readAll(t, idleReader{}, Config{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

func TestNewReaderNamesEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := NewReader(strings.NewReader(""), Config{
		Limits:    Limits{MaxRequests: -1, MaxRequestBytes: -2, MaxFileBytes: -3, MaxModels: -4},
		Endpoint:  "/v1/other",
		Endpoints: []string{"v1/chat"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"MaxRequests is -1", "MaxRequestBytes is -2", "MaxFileBytes is -3", "MaxModels is -4", `Endpoint is "/v1/other"`, `Endpoints holds "v1/chat"`} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%q is not in %q", field, err)
		}
	}
	if _, err := NewReader(nil, Config{}); err == nil {
		t.Error("nil source: no error")
	}
}

func TestReaderReadsTheExample(t *testing.T) {
	t.Parallel()
	file, err := os.Open("../../examples/requests.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, summary, err := readAll(t, file, Config{Endpoint: "/v1/chat/completions"})
	if err != io.EOF {
		t.Fatal(err)
	}
	if summary.Requests != 40 || len(summary.Models) != 3 {
		t.Errorf("%d requests of %d models", summary.Requests, len(summary.Models))
	}
}

// docs/endpoints.md lists what a file may name by default.
func TestDefaultEndpointsInDocuments(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/endpoints.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range DefaultEndpoints {
		if !strings.Contains(string(document), "`"+path+"`") {
			t.Errorf("docs/endpoints.md lacks %s", path)
		}
	}
}

// A small file that is in memory takes a small buffer: programs submit many.
func TestBuffersOfSmallFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file io.Reader
		want int
	}{
		"a few bytes":  {strings.NewReader("abc"), minChunkBytes},
		"some lines":   {bytes.NewBuffer(make([]byte, 50_000)), 50_001},
		"many lines":   {bytes.NewReader(make([]byte, 2*chunkBytes)), chunkBytes},
		"size unknown": {io.LimitReader(strings.NewReader("abc"), 2), chunkBytes},
	} {
		if got := chunkFor(test.file); got != test.want {
			t.Errorf("%s: a buffer of %d bytes, want %d", name, got, test.want)
		}
	}
	const line = `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","n":"`
	for size := minChunkBytes - 300; size < minChunkBytes+300; size += 7 { // the end of the file and of the buffer, about each other
		text := line + strings.Repeat("x", size) + `"}}`
		r, err := NewReader(strings.NewReader(text), Config{})
		if err != nil {
			t.Fatal(err)
		}
		if first, err := r.Next(); err != nil || first.CustomID != "a" {
			t.Errorf("a line of %d bytes: %v, %v", len(text), first.CustomID, err)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("after a line of %d bytes: %v", len(text), err)
		}
	}
}
