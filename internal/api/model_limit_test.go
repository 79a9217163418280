package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
)

// named is a file of one request per model.
func named(models ...string) string {
	var b strings.Builder
	for i, m := range models {
		b.WriteString(request(fmt.Sprint(i), m))
	}
	return b.String()
}

func (c *client) uploadContent(content string) answer {
	c.T.Helper()
	return c.upload(field{"purpose", "", "batch"}, field{"file", "a.jsonl", content})
}

// uploadInParts uploads the content as one part.
func (c *client) uploadInParts(content string) answer {
	c.T.Helper()
	upload := c.uploading(len(content))
	part := c.part(upload, content).want(c.T, http.StatusOK).text("id")
	return c.post("/uploads/"+upload+"/complete", map[string]any{"part_ids": []string{part}})
}

// Models are bounded per owner and in all. Those that are known already are
// always accepted, and names come back when their last file is deleted.
func TestModelLimits(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.ModelLimits = batch.ModelLimits{PerOwner: 3, Total: 4} })
	alice, bob := s.client("alice"), s.client("bob")
	refused := func(c *client, content string, in ...string) {
		t.Helper()
		a := c.uploadContent(content).wantError(t, http.StatusBadRequest, "too_many_models")
		for _, want := range in {
			if !strings.Contains(a.text("error", "message"), want) {
				t.Errorf("message %q, want %q in it", a.text("error", "message"), want)
			}
		}
	}
	first := alice.file(named("a", "b"))
	second := alice.file(named("b", "c"))
	refused(alice, named("a", "d"), `"d"`, "3 models", "owner's files")
	alice.file(named("a", "b", "c"))
	bob.file(named("a", "e")) // a, b, c and e in all
	refused(bob, named("f"), `"f"`, "4 models", "all owners", "MAX_MODELS")
	bob.file(named("b"))
	alice.do(http.MethodDelete, "/files/"+second, "", nil).want(t, http.StatusOK)
	refused(alice, named("d")) // c is in the third file yet
	if n := s.count(`SELECT count(*) FROM owner_models WHERE owner = 'alice'`); n != 3 {
		t.Errorf("alice has %d models", n)
	}
	for _, id := range alice.get("/files").ids() {
		if id != first {
			alice.do(http.MethodDelete, "/files/"+id, "", nil).want(t, http.StatusOK)
		}
	}
	alice.file(named("d"))
	// An upload in parts is no way around.
	bob.uploadInParts(named("x")).wantError(t, http.StatusBadRequest, "too_many_models")
	s.wantFiles(s.count(`SELECT count(*) FROM files WHERE status <> 'uploading' AND requests > 0`))
}

// However many files come at once, from however many owners, no limit is passed.
func TestModelLimitsAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) {
		cfg.ModelLimits = batch.ModelLimits{PerOwner: 3, Total: 5}
		cfg.MaxUploads, cfg.MaxUploadsPerOwner = 16, 15
	})
	owners := []*client{s.client("alice"), s.client("bob"), s.client("carol")}
	var all sync.WaitGroup
	for i := range 18 {
		c := owners[i%len(owners)]
		contentType, body := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", named(fmt.Sprintf("m%d", i))})
		all.Go(func() {
			a, err := c.try(http.MethodPost, "/files", contentType, strings.NewReader(body))
			if err != nil || a.status != http.StatusOK && a.status != http.StatusBadRequest {
				t.Errorf("%v %s", err, a.body)
			}
		})
	}
	all.Wait()
	if n := s.count(`SELECT count(DISTINCT model) FROM owner_models`); n != 5 {
		t.Errorf("%d models in all, want 5", n)
	}
	if n := s.count(`SELECT max(n) FROM (SELECT count(*) AS n FROM owner_models GROUP BY owner) o`); n > 3 {
		t.Errorf("an owner has %d models", n)
	}
	if n := s.count(`SELECT count(*) FROM files f JOIN file_models m ON m.file_id = f.id`); n != 5 {
		t.Errorf("%d files were kept, want 5", n)
	}
}

// Operators can list the models that files may name.
func TestModelsAllowed(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.AllowedModels = []string{"gpt-*"} })
	c := s.client("alice")
	c.file(named("gpt-4o", "gpt-5"))
	for _, upload := range []func(string) answer{c.uploadContent, c.uploadInParts} {
		a := upload(named("gpt-4o", "other", "gpt-5", "another")).wantError(t, http.StatusBadRequest, "model_not_allowed")
		for _, want := range []string{`line 2: body.model is "other"`, `line 4: body.model is "another"`, "gpt-*"} {
			if !strings.Contains(a.text("error", "message"), want) {
				t.Errorf("message %q, want %q in it", a.text("error", "message"), want)
			}
		}
	}
}

// Operators can list the urls that lines may have; the refusal names them.
func TestEndpointsAllowed(t *testing.T) {
	t.Parallel()
	at := func(urls ...string) string {
		var lines strings.Builder
		for i, url := range urls {
			lines.WriteString(strings.Replace(request(fmt.Sprint(i), "m"), "/v1/chat/completions", url, 1))
		}
		return lines.String()
	}
	s := newService(t, func(*api.Config) {})
	c := s.client("alice")
	for _, url := range jsonl.DefaultEndpoints {
		file := c.file(at(url, url))
		if got := c.post("/batches", map[string]any{"input_file_id": file, "endpoint": url, "completion_window": "24h"}); got.status != http.StatusOK {
			t.Errorf("%s: %+v", url, got)
		}
	}
	a := c.uploadContent(at("/v1/embeddings", "/v1/audio/speech", "/v1/videos")).wantError(t, http.StatusBadRequest, "unknown_url")
	for _, want := range []string{"line 2: url must be one of /v1/chat/completions, ", ", /pooling", "line 3: url must be one of"} {
		if !strings.Contains(a.text("error", "message"), want) {
			t.Errorf("message %q, want %q in it", a.text("error", "message"), want)
		}
	}
	c = newService(t, func(cfg *api.Config) { cfg.AllowedEndpoints = []string{"/v1/audio/speech"} }).client("alice")
	c.file(at("/v1/audio/speech"))
	for _, upload := range []func(string) answer{c.uploadContent, c.uploadInParts} {
		a = upload(at("/v1/audio/speech", "/v1/embeddings")).wantError(t, http.StatusBadRequest, "unknown_url")
		if want := "line 2: url must be one of /v1/audio/speech"; !strings.Contains(a.text("error", "message"), want) {
			t.Errorf("message %q, want %q in it", a.text("error", "message"), want)
		}
	}
}
