package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/survey"
)

func decode(t *testing.T, a answer, into any) {
	t.Helper()
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatal(err)
	}
}

// surveyed is what a file's object says of its requests.
type surveyed struct {
	Survey *struct {
		Requests   int              `json:"requests"`
		Prompt     int64            `json:"prompt_tokens"`
		Completion int64            `json:"max_completion_tokens"`
		Unbounded  int              `json:"unbounded_requests"`
		Repeated   int              `json:"repeated_bodies"`
		AtLeast    bool             `json:"repeated_bodies_at_least"`
		Cost       *string          `json:"cost"`
		PerModel   []map[string]any `json:"models"`
	} `json:"x_survey"`
}

// A file that is uploaded has the numbers that fusillade check prints, however it
// came: as a whole, in parts, compressed.
func TestUploadSurveys(t *testing.T) {
	t.Parallel()
	s := newService(t, withPrices)
	c := s.client("alice")
	content := requests(300, "m") + strings.ReplaceAll(requests(20, "dear"), `"custom_id":"`, `"custom_id":"other-`) +
		`{"custom_id":"long","method":"POST","url":"/v1/chat/completions","body":{"model":"m","n":2,"max_tokens":77,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 500) + `"}]}}` + "\n"
	checked, err := survey.Read(t.Context(), strings.NewReader(content), jsonl.Config{}, batch.Prices{"m": {Prompt: 1_000_000, Completion: 2_000_000}})
	if err != nil {
		t.Fatal(err)
	}
	if checked.Repeated == 0 || len(checked.Models) != 2 {
		t.Fatalf("the file tries too little: %+v", checked)
	}
	inParts := func(content string) string {
		t.Helper()
		upload := c.uploading(len(content))
		half := len(content) / 3
		parts := []string{
			c.part(upload, content[:half]).want(t, http.StatusOK).text("id"),
			c.part(upload, content[half:]).want(t, http.StatusOK).text("id"),
		}
		return c.complete(upload, parts, "").want(t, http.StatusOK).text("file", "id")
	}
	for name, id := range map[string]string{
		"whole": c.file(content), "parts": inParts(content), "gzip": c.file(packed(content)), "gzip in parts": inParts(packed(content)),
	} {
		var got surveyed
		decode(t, c.get("/files/"+id).want(t, http.StatusOK), &got)
		if got.Survey == nil {
			t.Errorf("%s: there is no survey", name)
			continue
		}
		total := checked.Total()
		if got.Survey.Requests != checked.Requests || got.Survey.Prompt != total.PromptTokens || got.Survey.Completion != total.CompletionTokens ||
			got.Survey.Unbounded != total.Unbounded || got.Survey.Repeated != checked.Repeated || got.Survey.AtLeast ||
			got.Survey.Cost == nil || *got.Survey.Cost != total.Cost.String() {
			t.Errorf("%s: %+v, want %+v", name, got.Survey, checked)
		}
		want := modelMembers(t, checked.Models)
		if diff := cmp.Diff(want, got.Survey.PerModel); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
	var list struct{ Data []surveyed }
	decode(t, c.get("/files").want(t, http.StatusOK), &list)
	for _, f := range list.Data {
		if f.Survey != nil {
			t.Error("a listed file has a survey, which may be long")
		}
	}
}

// A file that the release before stored has no survey.
func TestNoSurvey(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	id := c.file(requests(2, "m"))
	if _, err := s.DB.Exec(t.Context(), `UPDATE files SET survey = NULL`); err != nil {
		t.Fatal(err)
	}
	var got surveyed
	decode(t, c.get("/files/"+id).want(t, http.StatusOK), &got)
	if got.Survey != nil {
		t.Errorf("%+v", got.Survey)
	}
}

// modelMembers are the members of x_survey's models.
func modelMembers(t *testing.T, models []batch.ModelSurvey) (out []map[string]any) {
	t.Helper()
	for _, m := range models {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		delete(members, "cost_millionths")
		members["cost"] = nil
		if m.Cost != nil {
			members["cost"] = m.Cost.String()
		}
		out = append(out, members)
	}
	return out
}
