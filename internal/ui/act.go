package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fusillade/internal/api"
	"fusillade/internal/batch"
)

// maxSelected is how many things one action is done to.
const maxSelected = 200

// action is something that a form has done.
type action struct {
	// question is asked before; empty: it is done at once. %s is what it is done to.
	question, verb string
	operators      bool
	// do does it to one of the ids of the form, and may return a text to be shown.
	do func(r *http.Request, who api.Caller, id string) (string, error)
}

func (u *UI) actions() map[string]action {
	// Operators change everybody's batches, by routes of their own.
	changeBatch := func(method, suffix string, body any) func(*http.Request, api.Caller, string) (string, error) {
		return func(r *http.Request, who api.Caller, id string) (string, error) {
			_, err := u.cfg.API.Do(r, method, batchRoute(who, id)+suffix, body)
			return "", err
		}
	}
	removeFile := func(r *http.Request, _ api.Caller, id string) (string, error) {
		_, err := u.cfg.API.Do(r, http.MethodDelete, "/v1/files/"+url.PathEscape(id), nil)
		return "", err
	}
	model := func(change func(r *http.Request) (map[string]any, error)) func(*http.Request, api.Caller, string) (string, error) {
		return func(r *http.Request, _ api.Caller, id string) (string, error) {
			body, err := change(r)
			if err == nil {
				_, err = u.cfg.API.Do(r, http.MethodPatch, "/admin/v1/models/"+url.PathEscape(id), body)
			}
			return "", err
		}
	}
	paused := func(paused bool) func(*http.Request) (map[string]any, error) {
		return func(*http.Request) (map[string]any, error) { return map[string]any{"paused": paused}, nil }
	}
	return map[string]action{
		"cancel-batches": {question: "Cancel %s? Requests in flight end, and the others are not called. What has a result keeps it.", verb: "Cancel", do: changeBatch(http.MethodPost, "/cancel", nil)},
		"rerun-batches": {question: "Rerun what did not complete in %s? These requests are called again.", verb: "Rerun",
			do: changeBatch(http.MethodPost, "/rerun", map[string]any{"statuses": []string{"failed", "expired", "canceled"}})},
		"delete-batches": {question: "Delete %s with all results? A batch in progress is canceled first. This cannot be undone.", verb: "Delete", do: changeBatch(http.MethodDelete, "", nil)},
		"rerun-group":    {question: "Rerun the requests of %s that failed this way? They are called again.", verb: "Rerun", do: u.rerunGroup},
		"create-batch":   {do: u.createBatch, verb: "Create"},
		"delete-files":   {question: "Delete %s? Batches of it that are in progress are canceled, and their requests cannot be rerun. This cannot be undone.", verb: "Delete", do: removeFile},
		"pause-model":    {question: "Pause %s? Calls in flight end, and no new one begins until it is resumed.", verb: "Pause", operators: true, do: model(paused(true))},
		"resume-model":   {verb: "Resume", operators: true, do: model(paused(false))},
		"limit-model":    {verb: "Set", operators: true, do: model(modelLimits)},
		"lift-holds": {verb: "Lift", operators: true, do: func(r *http.Request, _ api.Caller, id string) (string, error) {
			query := url.Values{"model": {id}}
			if only := r.PostFormValue("batch"); only != "" {
				query.Set("batch_id", only)
			}
			_, err := u.cfg.API.Do(r, http.MethodDelete, "/admin/v1/holds?"+query.Encode(), nil)
			return "", err
		}},
		"create-key":      {verb: "Create", operators: true, do: u.createKey},
		"revoke-key":      {question: "Revoke the key %s? Its clients are refused from the next request on, and its sessions end. This cannot be undone.", verb: "Revoke", operators: true, do: u.revokeKey},
		"delete-webhook":  {question: "Delete the webhook %s? What was to be delivered to it is dropped.", verb: "Delete", operators: true, do: u.deleteWebhook},
		"resend-delivery": {verb: "Send", operators: true, do: u.resendDelivery},
		"weigh-owner":     {verb: "Set", operators: true, do: u.weighOwner},
	}
}

// batchRoute is where someone changes a batch.
func batchRoute(who api.Caller, id string) string {
	if who.Admin {
		return "/admin/v1/batches/" + url.PathEscape(id)
	}
	return "/v1/batches/" + url.PathEscape(id)
}

// questionData is what the page of a question shows.
type questionData struct {
	Question, Verb, Action, Back string
	Fields                       []field
}

type field struct{ Name, Value string }

func (questionData) Title() string { return "Please confirm" }
func (questionData) Ended() bool   { return true }

// act does what a form asks for. If the action has a question it is asked first: its
// answer is the same form with a field more.
func (u *UI) act(w http.ResponseWriter, r *http.Request, v view) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		u.fail(w, r, v, api.Invalid("The form could not be read."))
		return
	}
	if err := u.cfg.API.SameOrigin(r); err != nil {
		u.fail(w, r, v, err)
		return
	}
	name := r.PathValue("action")
	a, known := u.actions()[name]
	ids := r.PostForm["id"]
	back := local(r.PostFormValue("back"))
	switch {
	case !known:
		u.fail(w, r, v, errNoPage)
		return
	case a.operators && !v.Who.Admin:
		u.fail(w, r, v, api.ErrOperatorsOnly)
		return
	case len(ids) == 0:
		u.fail(w, r, v, api.Invalid("Nothing was selected. Go back, and select what the action is for."))
		return
	case len(ids) > maxSelected:
		u.fail(w, r, v, api.Invalid(fmt.Sprintf("At most %d may be selected at once.", maxSelected)))
		return
	}
	if a.question != "" && r.PostFormValue("confirmed") != "yes" {
		v.Data = ask(a, name, back, r.PostForm)
		u.render(w, r, http.StatusOK, "question", v)
		return
	}
	var told []string
	var problems []string
	for _, id := range ids {
		text, err := a.do(r, v.Who, id)
		if err != nil {
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler)
			}
			_, message := u.cfg.API.Failure(err)
			problems = append(problems, strings.TrimSpace(id+": "+message))
		} else if text != "" {
			told = append(told, text)
		}
	}
	if len(problems) > 0 || len(told) > 0 {
		v.Data = outcomeData{Verb: a.verb, Done: len(ids) - len(problems), Problems: problems, Told: told, Back: back}
		status := http.StatusOK
		if len(problems) > 0 {
			status = http.StatusConflict
		}
		u.render(w, r, status, "outcome", v)
		return
	}
	http.Redirect(w, r, noticed(back, name, len(ids)), http.StatusSeeOther)
}

// outcomeData is what an action has to tell.
type outcomeData struct {
	Verb           string
	Done           int
	Problems, Told []string
	Back           string
}

func (outcomeData) Title() string { return "Outcome" }
func (outcomeData) Ended() bool   { return true }

func ask(a action, name, back string, form url.Values) questionData {
	d := questionData{Verb: a.verb, Action: name, Back: back}
	ids := form["id"]
	what := ids[0]
	if len(ids) > 1 {
		what = fmt.Sprintf("these %d", len(ids))
	}
	d.Question = fmt.Sprintf(a.question, what)
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range form {
			if !yield(key) {
				return
			}
		}
	}) {
		for _, value := range form[key] {
			if key != "confirmed" {
				d.Fields = append(d.Fields, field{key, value})
			}
		}
	}
	return d
}

// notices are what actions have done, in words.
var notices = map[string]string{
	"cancel-batches": "canceled", "rerun-batches": "rerun", "delete-batches": "deleted", "rerun-group": "rerun", "create-batch": "created",
	"delete-files": "deleted", "pause-model": "paused", "resume-model": "resumed", "limit-model": "changed", "lift-holds": "lifted",
	"revoke-key": "revoked", "delete-webhook": "deleted", "resend-delivery": "to be sent again", "weigh-owner": "changed",
}

func noticed(back, name string, n int) string {
	u, err := url.Parse(back)
	if err != nil {
		return "/ui/"
	}
	query := u.Query()
	query.Set("did", name)
	query.Set("n", strconv.Itoa(n))
	u.RawQuery = query.Encode()
	return u.String()
}

func notice(r *http.Request) string {
	query := r.URL.Query()
	text, known := notices[query.Get("did")]
	n, err := strconv.Atoi(query.Get("n"))
	if !known || err != nil || n < 1 {
		return ""
	}
	if n == 1 {
		return "Done: " + text + "."
	}
	return fmt.Sprintf("Done: %d %s.", n, text)
}

// rerunGroup reruns the requests of a batch that failed alike.
func (u *UI) rerunGroup(r *http.Request, who api.Caller, id string) (string, error) {
	batchID, err := batch.ParseID(id)
	if err != nil {
		return "", batch.ErrNotFound
	}
	owner := &who.Owner
	if who.Admin {
		owner = nil
	}
	b, err := u.cfg.Store.GetBatch(r.Context(), batchID, owner)
	if err != nil {
		return "", err
	}
	status, _ := strconv.Atoi(r.PostFormValue("status"))
	lines, err := u.cfg.Store.FailedLines(r.Context(), b.ID, batch.Reason(r.PostFormValue("reason")), status)
	if err != nil {
		return "", err
	}
	if len(lines) == 0 {
		return "", api.Invalid("No request of the batch failed this way any more.")
	}
	_, err = u.cfg.API.Do(r, http.MethodPost, batchRoute(who, id)+"/rerun", map[string]any{"lines": lines})
	return "", err
}

// createBatch makes a batch of a file.
func (u *UI) createBatch(r *http.Request, _ api.Caller, id string) (string, error) {
	_, err := u.cfg.API.Do(r, http.MethodPost, "/v1/batches", map[string]any{
		"input_file_id": id, "endpoint": r.PostFormValue("endpoint"), "completion_window": r.PostFormValue("window"),
	})
	return "", err
}

// modelLimits reads the limit and rates of a model; an empty field leaves what there
// is.
func modelLimits(r *http.Request) (map[string]any, error) {
	body := make(map[string]any)
	if text := strings.TrimSpace(r.PostFormValue("limit")); text != "" {
		body["limit"] = text
		if n, err := strconv.Atoi(text); err == nil {
			body["limit"] = n
		}
	}
	for form, member := range map[string]string{"rpm": "requests_per_minute", "tpm": "tokens_per_minute"} {
		text := strings.TrimSpace(r.PostFormValue(form))
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, api.Invalid(fmt.Sprintf("%s must be a whole number; 0: as the environment says.", member))
		}
		body[member] = n
	}
	if len(body) == 0 {
		return nil, api.Invalid("There is nothing to change: all fields are empty.")
	}
	return body, nil
}
