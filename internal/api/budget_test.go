package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/mock"
)

func withPrices(cfg *api.Config) {
	cfg.Prices = batch.Prices{"m": {Prompt: 1_000_000, Completion: 2_000_000}, "gpt-*": {Prompt: 5}}
}

// A budget comes from its field, or from the metadata for clients that know no such
// field; the two must agree.
func TestBudget(t *testing.T) {
	t.Parallel()
	s := newService(t, withPrices)
	c := s.client("alice")
	file, unpriced := c.file(requests(1, "m")), c.file(requests(1, "other"))
	object := func(tokens, cost, spentCost string) string {
		return fmt.Sprintf(`{"tokens":%s,"cost":%s,"spent_tokens":0,"spent_cost":%s,"exceeded_at":null}`, tokens, cost, spentCost)
	}
	for name, tt := range map[string]struct {
		file, field, metadata string
		want                  string // the object, or the parameter of the error
	}{
		"none":                 {file, ``, ``, `null`},
		"null":                 {file, `null`, ``, `null`},
		"empty":                {file, `{}`, ``, `null`},
		"tokens":               {file, `{"tokens":1000}`, ``, object("1000", "null", "null")},
		"money":                {file, `{"cost":"2.5"}`, ``, object("null", `"2.50"`, `"0.00"`)},
		"both":                 {file, `{"tokens":1,"cost":"0.000001"}`, ``, object("1", `"0.000001"`, `"0.00"`)},
		"nulls":                {file, `{"tokens":null,"cost":null}`, ``, `null`},
		"metadata":             {file, ``, `{"fusillade-budget-tokens":"7","fusillade-budget-cost":"1"}`, object("7", `"1.00"`, `"0.00"`)},
		"the same twice":       {file, `{"tokens":7}`, `{"fusillade-budget-tokens":"7"}`, object("7", "null", "null")},
		"another one twice":    {file, `{"tokens":7}`, `{"fusillade-budget-tokens":"8"}`, `budget`},
		"no tokens":            {file, `{"tokens":0}`, ``, `budget.tokens`},
		"too many tokens":      {file, `{"tokens":4000000000000001}`, ``, `budget.tokens`},
		"half a token":         {file, `{"tokens":1.5}`, ``, `budget.tokens`},
		"no money":             {file, `{"cost":"0"}`, ``, `budget.cost`},
		"money as a number":    {file, `{"cost":2.5}`, ``, `budget.cost`},
		"money in words":       {file, `{"cost":"$2"}`, ``, `budget.cost`},
		"too much money":       {file, `{"cost":"1000000.000001"}`, ``, `budget.cost`},
		"metadata in words":    {file, ``, `{"fusillade-budget-tokens":"many"}`, `metadata.fusillade-budget-tokens`},
		"metadata without one": {file, ``, `{"fusillade-budget-cost":""}`, `metadata.fusillade-budget-cost`},
		"an unknown member":    {file, `{"dollars":1}`, ``, `budget.dollars`},
		"without a price":      {unpriced, `{"cost":"1"}`, ``, `budget.cost`},
		"tokens of these":      {unpriced, `{"tokens":1}`, ``, object("1", "null", "null")},
	} {
		t.Run(name, func(t *testing.T) {
			body := newBatch(tt.file)
			if tt.field != "" {
				body["budget"] = json.RawMessage(tt.field)
			}
			if tt.metadata != "" {
				body["metadata"] = json.RawMessage(tt.metadata)
			}
			a := c.post("/batches", body)
			if strings.HasPrefix(tt.want, "budget") || strings.HasPrefix(tt.want, "metadata") {
				a.wantError(t, http.StatusBadRequest, "")
				if got := a.value("error", "param"); got != tt.want {
					t.Errorf("it blames %v: %s", got, a.body)
				}
				return
			}
			var got struct{ Budget json.RawMessage }
			if err := json.Unmarshal(a.want(t, http.StatusOK).body, &got); err != nil || string(got.Budget) != tt.want {
				t.Errorf("%s, want %s, %v", got.Budget, tt.want, err)
			}
		})
	}
	a := c.post("/batches", map[string]any{"input_file_id": unpriced, "endpoint": "/v1/chat/completions", "completion_window": "24h", "budget": map[string]any{"cost": "1"}})
	a.wantError(t, http.StatusBadRequest, "model_without_price")
	if !strings.Contains(string(a.body), "other") || !strings.Contains(string(a.body), "FUSILLADE_MODEL_PRICES") {
		t.Errorf("%s", a.body)
	}
}

func (c *client) awaitStatus(id, want string) (a answer) {
	c.T.Helper()
	until(c.T, "the batch is "+want, func() bool {
		a = c.get("/batches/"+id).want(c.T, http.StatusOK)
		return a.text("status") == want
	})
	return a
}

// The rest of a batch whose budget is spent is cancelled, and is called once the budget
// is raised and it is rerun.
func TestBudgetIsSpentAndRaised(t *testing.T) {
	t.Parallel()
	s := newService(t, withPrices)
	s.Work(mock.Settings{Latency: "200ms"})
	c := s.client("alice")
	body := newBatch(c.file(requests(100, "m")))
	body["budget"] = map[string]any{"tokens": 1}
	id := c.post("/batches", body).want(t, http.StatusOK).value("id").(string)
	ended := c.awaitStatus(id, "cancelled")
	done, spent := ended.value("request_counts", "completed").(float64), ended.value("budget", "spent_tokens").(float64)
	if done < 1 || done > 90 || spent < done || ended.value("budget", "exceeded_at") == nil || ended.value("cancelling_at") != ended.value("budget", "exceeded_at") ||
		ended.value("cancelled_at") == nil || ended.value("output_file_id") == nil {
		t.Errorf("%s", ended.body)
	}
	errors := c.get("/files/"+ended.value("error_file_id").(string)+"/content").want(t, http.StatusOK)
	if n := strings.Count(string(errors.body), `"code":"budget_exceeded"`); n != 100-int(done) {
		t.Errorf("%d of %v lines are of the budget:\n%.300s", n, 100-done, errors.body)
	}
	if r := c.get("/batches/"+id+"/results?status=canceled&limit=1").want(t, http.StatusOK); !strings.Contains(string(r.body), "budget_exceeded") {
		t.Errorf("%s", r.body)
	}
	rerun := map[string]any{"statuses": []string{"canceled"}}
	c.post("/batches/"+id+"/rerun", rerun).wantError(t, http.StatusConflict, "budget_exceeded")
	change := func(c *client, body string) answer {
		t.Helper()
		return c.do(http.MethodPatch, "/batches/"+id, "application/json", strings.NewReader(body))
	}
	for _, bad := range []string{`{"budget":null}`, `{"budget":{"tokens":0}}`, `{"budget":1}`} {
		change(c, bad).wantError(t, http.StatusBadRequest, "")
	}
	change(s.client("bob"), `{"budget":{"tokens":9}}`).wantError(t, http.StatusNotFound, "")
	change(c, `{"budget":{"tokens":9},"priority":1}`).wantError(t, http.StatusConflict, "batch_ended")
	if a := change(c, `{"budget":{"cost":"1000"}}`).want(t, http.StatusOK); a.value("budget", "cost") != "1000.00" || a.value("status") != "cancelled" {
		t.Errorf("%s", a.body)
	}
	c.post("/batches/"+id+"/rerun", rerun).want(t, http.StatusOK)
	if b := c.awaitStatus(id, "completed"); b.value("request_counts", "completed") != 100.0 || b.value("budget", "exceeded_at") != nil {
		t.Errorf("%s", b.body)
	}
	if a := change(c, `{"budget":{}}`).want(t, http.StatusOK); a.value("budget") != nil {
		t.Errorf("%s", a.body)
	}
}
