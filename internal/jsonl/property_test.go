package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

// randomReader reads pieces of random sizes.
type randomReader struct {
	source io.Reader
	rand   *rand.Rand
}

func (r *randomReader) Read(p []byte) (int, error) {
	return r.source.Read(p[:min(len(p), r.rand.IntN(40))])
}

var deliveries = []string{"whole", "byte by byte", "halves", "data with the end", "random pieces"}

func deliver(data []byte, how string, seed uint64) io.Reader {
	source := bytes.NewReader(data)
	switch how {
	case "byte by byte":
		return iotest.OneByteReader(source)
	case "halves":
		return iotest.HalfReader(source)
	case "data with the end":
		return iotest.DataErrReader(source)
	case "random pieces":
		return &randomReader{source, rand.New(rand.NewPCG(seed, 0))}
	}
	return source
}

// readChunked reads with buffers of a given size. Templates are compared by the
// caller after the last Next, so that a body that is overwritten shows.
func readChunked(t *rapid.T, source io.Reader, cfg Config, chunk int) ([]batch.Template, batch.FileSummary, error) {
	reader, err := NewReader(source, cfg)
	if err != nil {
		t.Fatal(err)
	}
	reader.lines.chunk = chunk
	var templates []batch.Template
	for {
		template, err := reader.Next()
		if err != nil {
			return templates, reader.Summary(), err
		}
		templates = append(templates, template)
	}
}

func quote(t *rapid.T, text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(quoted)
}

// drawRequest draws a line that is good, and the template that it stands for.
func drawRequest(t *rapid.T, customID string) (string, batch.Template) {
	space := rapid.SampledFrom([]string{"", " ", "\t", " \r "})
	text := rapid.StringOfN(rapid.RuneFrom([]rune{'a', '"', '\\', '\n', 'é', '🦙', '{', '\u2028'}), 1, 20, 256)
	want := batch.Template{
		CustomID: customID,
		Model:    batch.Model(text.Draw(t, "model")),
		Method:   "POST",
		Path:     rapid.SampledFrom([]string{"/v1/chat/completions", "/v1/embeddings"}).Draw(t, "url"),
	}
	members := []string{
		`"model"` + space.Draw(t, "space") + ":" + quote(t, string(want.Model)),
		`"messages":[{"role":"user","content":` + quote(t, text.Draw(t, "content")) + "}]",
		`"temperature": 1.50e+0`,
		`"nested":{"model":null}`,
	}
	body := join(t, members, space)
	want.Body = []byte(body)
	members = []string{
		`"custom_id":` + space.Draw(t, "space") + quote(t, customID),
		`"url":` + quote(t, want.Path),
		`"body":` + space.Draw(t, "space") + body,
	}
	if rapid.Bool().Draw(t, "method") {
		members = append(members, `"method":"POST"`)
	}
	return join(t, members, space), want
}

func join(t *rapid.T, members []string, space *rapid.Generator[string]) string {
	object := "{"
	for i, member := range rapid.Permutation(members).Draw(t, "order") {
		if i > 0 {
			object += ","
		}
		object += space.Draw(t, "space") + member + space.Draw(t, "space")
	}
	return object + "}"
}

func TestGoodFilesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 1, 30, maxCustomIDBytes), 1, 12, rapid.ID[string]).Draw(t, "ids")
		lineEnd := rapid.SampledFrom([]string{"\n", "\r\n", "\n\n", "\n \t\n"})
		var file bytes.Buffer
		if rapid.Bool().Draw(t, "byte order mark") {
			file.Write(byteOrderMark)
		}
		want := make([]batch.Template, len(ids))
		for i, id := range ids {
			line, template := drawRequest(t, id)
			template.Line = int32(bytes.Count(file.Bytes(), []byte("\n"))) + 1
			want[i] = template
			file.WriteString(line)
			if i < len(ids)-1 || rapid.Bool().Draw(t, "last line end") {
				file.WriteString(lineEnd.Draw(t, "line end"))
			}
		}
		source := deliver(file.Bytes(), rapid.SampledFrom(deliveries).Draw(t, "delivery"), rapid.Uint64().Draw(t, "seed"))
		got, summary, err := readChunked(t, source, Config{AllowMixedEndpoints: true}, rapid.IntRange(1, 300).Draw(t, "chunk"))
		if err != io.EOF {
			t.Fatalf("%v\n%s", err, file.Bytes())
		}
		if !reflect.DeepEqual(want, got) { // cmp takes a while
			t.Fatal(cmp.Diff(want, got))
		}
		var requests int
		var bodyBytes, wantBytes int64
		for _, model := range summary.Models {
			requests += model.Requests
			bodyBytes += model.Bytes
		}
		for _, template := range want {
			wantBytes += int64(len(template.Body))
		}
		if requests != len(want) || summary.Requests != len(want) || bodyBytes != wantBytes {
			t.Fatalf("summary %+v", summary)
		}
	})
}

// TestOutcomeDoesNotDependOnDelivery reads good and bad files alike.
func TestOutcomeDoesNotDependOnDelivery(t *testing.T) {
	t.Parallel()
	pieces := rapid.SampledFrom([]string{
		request("a"), request("b"), request("c"), "{}", " ", "\r", "\n", "\n", "\n", "\r\n", "\xff", "\xef\xbb\xbf",
		`{"custom_id":"`, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
	})
	rapid.Check(t, func(t *rapid.T) {
		var file []byte
		for _, piece := range rapid.SliceOfN(pieces, 0, 20).Draw(t, "pieces") {
			file = append(file, piece...)
		}
		cfg := Config{Limits: Limits{
			MaxRequests:     rapid.IntRange(1, 8).Draw(t, "requests"),
			MaxRequestBytes: rapid.SampledFrom([]int{1, len(request("a")) - 1, len(request("a")), 1000}).Draw(t, "request bytes"),
			MaxFileBytes:    rapid.Int64Range(1, int64(len(file))+2).Draw(t, "file bytes"),
		}}
		want, wantSummary, wantErr := readChunked(t, bytes.NewReader(file), cfg, chunkBytes)
		source := deliver(file, rapid.SampledFrom(deliveries).Draw(t, "delivery"), rapid.Uint64().Draw(t, "seed"))
		got, summary, err := readChunked(t, source, cfg, rapid.IntRange(1, 200).Draw(t, "chunk"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(outcome(wantErr), outcome(err)); diff != "" {
			t.Fatal(diff)
		}
		if err == io.EOF && !cmp.Equal(wantSummary, summary) {
			t.Fatal(cmp.Diff(wantSummary, summary))
		}
	})
}

func outcome(err error) string {
	var invalid *InvalidFileError
	if errors.As(err, &invalid) {
		return fmt.Sprintf("%d: %+v", invalid.Total, invalid.Lines)
	}
	return err.Error()
}
