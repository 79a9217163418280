package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Batch is OpenAI's batch object. Times are in Unix seconds; 0: not yet.
type Batch struct {
	Raw
	ID               string            `json:"id"`
	Endpoint         string            `json:"endpoint"`
	InputFileID      string            `json:"input_file_id"`
	CompletionWindow string            `json:"completion_window"`
	Status           string            `json:"status"`
	OutputFileID     string            `json:"output_file_id"`
	ErrorFileID      string            `json:"error_file_id"`
	CreatedAt        int64             `json:"created_at"`
	ExpiresAt        int64             `json:"expires_at"`
	CompletedAt      int64             `json:"completed_at"`
	FailedAt         int64             `json:"failed_at"`
	ExpiredAt        int64             `json:"expired_at"`
	CancelledAt      int64             `json:"cancelled_at"`
	Counts           Counts            `json:"request_counts"`
	Metadata         map[string]string `json:"metadata"`
	Budget           *SpentBudget      `json:"budget"` // nil: there is none
	Waiting          *Waiting          `json:"x_status"`
}

// Budget is the most that a batch may use. With both, the one that is reached first
// counts; the zero Budget is none.
type Budget struct {
	Tokens int64  `json:"tokens,omitempty"` // of prompts and completions; 0: any number
	Cost   string `json:"cost,omitempty"`   // by the server's prices, such as 12.50; empty: any
}

// SpentBudget is a batch's budget, and what of it is spent.
type SpentBudget struct {
	Budget
	SpentTokens int64  `json:"spent_tokens"`
	SpentCost   string `json:"spent_cost"`  // empty: the budget is of tokens alone
	ExceededAt  int64  `json:"exceeded_at"` // when it was spent and requests were left, in Unix seconds; 0: it is not
}

// String says it in one line; empty: there is no budget.
func (b *SpentBudget) String() string {
	if b == nil {
		return ""
	}
	var parts []string
	if b.Tokens > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d tokens", b.SpentTokens, b.Tokens))
	}
	if b.Cost != "" {
		parts = append(parts, fmt.Sprintf("%s of %s", b.SpentCost, b.Cost))
	}
	text := strings.Join(parts, ", ") + " spent"
	if b.ExceededAt > 0 {
		text += "; what was left is canceled"
	}
	return text
}

// Waiting says what holds a batch up.
type Waiting struct {
	Code      string      `json:"code"`
	Message   string      `json:"message"`
	Action    string      `json:"action"` // empty: there is nothing to do
	LastError *ErrorGroup `json:"last_error"`
	// RequestsAhead are those of the owner's batches that are called before, and
	// EstimatedSeconds how long they take at the rate of late; 0: not known.
	RequestsAhead    int64 `json:"requests_ahead"`
	EstimatedSeconds int64 `json:"estimated_seconds"`
}

// String says it in one line, with what to do and the last failure; empty: nothing
// holds the batch up.
func (w *Waiting) String() string {
	if w == nil {
		return ""
	}
	text := w.Message
	if w.RequestsAhead > 0 {
		text += fmt.Sprintf(" %d requests are ahead of them", w.RequestsAhead)
		if w.EstimatedSeconds > 0 {
			text += fmt.Sprintf(", for about %v", time.Duration(w.EstimatedSeconds)*time.Second)
		}
		text += "."
	}
	if w.Action != "" {
		text += " " + w.Action
	}
	if e := w.LastError; e != nil {
		text += " The last failure: "
		if e.StatusCode != 0 {
			text += fmt.Sprintf("status %d, ", e.StatusCode)
		}
		text += e.Message
	}
	return text
}

// ErrorGroup are requests of a batch that failed alike.
type ErrorGroup struct {
	Raw
	Code       string `json:"code"`
	StatusCode int    `json:"status_code"` // 0: there was no answer
	Message    string `json:"message"`
	Ended      bool   `json:"ended"` // they have their results; else they are called again
	Count      int64  `json:"count"`
	CustomID   string `json:"custom_id"` // of one of them
}

// Counts are OpenAI's three.
type Counts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// Ended reports whether nothing of the batch is going to change by itself.
func (b Batch) Ended() bool {
	switch b.Status {
	case "completed", "failed", "expired", "cancelled":
		return true
	}
	return false
}

// NewBatch is a batch to create.
type NewBatch struct {
	InputFileID      string            `json:"input_file_id"`
	Endpoint         string            `json:"endpoint"`
	CompletionWindow string            `json:"completion_window"`
	Metadata         map[string]string `json:"metadata,omitempty"`
	Priority         int               `json:"priority,omitempty"`
	Budget           *Budget           `json:"budget,omitempty"`
}

// maxCreates is how often a batch is asked for whose answer does not come.
const maxCreates = 5

// CreateBatch begins a batch of a file that was uploaded. It has an idempotency
// key, so that an answer that was lost, or an error of the server's, is followed
// by another attempt and not by another batch.
func (c *Client) CreateBatch(ctx context.Context, n NewBatch) (Batch, error) {
	r := request{method: http.MethodPost, path: "/v1/batches", withUpstreamKey: true, idempotencyKey: "fusillade-" + rand.Text()}
	pause := c.pause()
	for attempt := 1; ; attempt++ {
		b, err := read[Batch](c.callJSON(ctx, r, n))
		if err == nil || ctx.Err() != nil || attempt == maxCreates || !mayHaveBeenLost(err) {
			return b, err
		}
		if pauseErr := pause.Wait(ctx); pauseErr != nil {
			return b, err
		}
	}
}

// mayHaveBeenLost reports whether the same request may succeed at once: the
// connection broke, or the server failed. What it refuses it will refuse again,
// and too much in progress takes longer than we wait.
func mayHaveBeenLost(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.Status >= 500 || e.Status == http.StatusRequestTimeout
}

func batchPath(id, verb string) string {
	return "/v1/batches/" + url.PathEscape(id) + verb
}

// changePath is where a batch is canceled, rerun or deleted.
func (c *Client) changePath(id, verb string) string {
	if c.operator {
		return "/admin" + batchPath(id, verb)
	}
	return batchPath(id, verb)
}

// Batch returns a batch's object.
func (c *Client) Batch(ctx context.Context, id string) (Batch, error) {
	return read[Batch](c.call(ctx, http.MethodGet, batchPath(id, ""), nil, nil))
}

// BatchErrors returns the failures of a batch, grouped, the largest first. Partial:
// there are more than were counted.
func (c *Client) BatchErrors(ctx context.Context, id string) (groups []ErrorGroup, partial bool, err error) {
	raw, err := c.call(ctx, http.MethodGet, batchPath(id, "/errors"), nil, nil)
	if err != nil {
		return nil, false, err
	}
	var list struct {
		Data    []json.RawMessage `json:"data"`
		Partial bool              `json:"partial"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, false, fmt.Errorf("reading the answer: %w", err)
	}
	for _, one := range list.Data {
		g, err := read[ErrorGroup](one, nil)
		if err != nil {
			return nil, false, err
		}
		groups = append(groups, g)
	}
	return groups, list.Partial, nil
}

// Batches walks the batches, newest first, up to n of them; 0: all. With statuses
// (in_progress, cancelling, completed, failed, expired, cancelled) it walks those that
// have one of them. A batch that has failures alone is completed, as OpenAI has it, and
// found as failed too.
func (c *Client) Batches(ctx context.Context, n int, statuses ...string) iter.Seq2[Batch, error] {
	query := make(url.Values)
	if len(statuses) > 0 {
		query.Set("status", strings.Join(statuses, ","))
	}
	return pages[Batch](ctx, c, "/v1/batches", query, n)
}

// SetBatchPriority changes the priority of a batch that has not ended.
func (c *Client) SetBatchPriority(ctx context.Context, id string, priority int) (Batch, error) {
	return read[Batch](c.call(ctx, http.MethodPatch, batchPath(id, ""), nil, map[string]int{"priority": priority}))
}

// BatchChange is what is to change about a batch; what is nil stays as it is.
type BatchChange struct {
	Priority *int    `json:"priority,omitempty"` // of a batch that has not ended
	Budget   *Budget `json:"budget,omitempty"`   // the zero Budget: none from now on
}

// ChangeBatch changes a batch.
func (c *Client) ChangeBatch(ctx context.Context, id string, change BatchChange) (Batch, error) {
	return read[Batch](c.call(ctx, http.MethodPatch, batchPath(id, ""), nil, change))
}

// CancelBatch ends a batch.
func (c *Client) CancelBatch(ctx context.Context, id string) (Batch, error) {
	return read[Batch](c.call(ctx, http.MethodPost, c.changePath(id, "/cancel"), nil, nil))
}

// State is how a request ended.
type State string

// The states in which a request has its result.
const (
	Completed State = "completed"
	Failed    State = "failed"
	Canceled  State = "canceled"
	Expired   State = "expired"
)

// RerunBatch calls again the requests that ended in these states; none: those
// that failed.
func (c *Client) RerunBatch(ctx context.Context, id string, states ...State) (Batch, error) {
	var body any
	if len(states) > 0 {
		body = map[string]any{"statuses": states}
	}
	return read[Batch](c.run(ctx, c.changePath(id, "/rerun"), body))
}

// DeleteBatch deletes a batch and its results.
func (c *Client) DeleteBatch(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodDelete, c.changePath(id, ""), nil, nil)
	return err
}

// ChangedLines says which of the named requests were changed.
type ChangedLines struct {
	Raw
	Changed   []int32 `json:"changed"`
	Unchanged []int32 `json:"unchanged"` // their state did not allow it
}

type linesBody struct {
	Lines []int32 `json:"lines"`
}

// CancelLines cancels single requests of a batch, by the line of each.
func (c *Client) CancelLines(ctx context.Context, id string, lines []int32) (ChangedLines, error) {
	return read[ChangedLines](c.call(ctx, http.MethodPost, c.changePath(id, "/cancel"), nil, linesBody{lines}))
}

// RerunLines calls single requests of a batch again.
func (c *Client) RerunLines(ctx context.Context, id string, lines []int32) (ChangedLines, error) {
	return read[ChangedLines](c.run(ctx, c.changePath(id, "/rerun"), linesBody{lines}))
}
