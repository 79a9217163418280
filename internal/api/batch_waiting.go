package api

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
)

// statusObject says what holds a batch up, and what to do about it. It names no
// host: owners of a shared cluster see it.
type statusObject struct {
	Code    string  `json:"code"`
	Model   *string `json:"model"` // null: it concerns all
	Cause   *string `json:"cause"` // of held
	Message string  `json:"message"`
	Action  *string `json:"action"` // null: there is nothing to do but to wait
	Since   *int64  `json:"since"`
	Until   *int64  `json:"until"` // of held: when the next call finds out whether it is over
	// RequestsAhead and EstimatedSeconds are of queued.
	RequestsAhead    *int64 `json:"requests_ahead"`
	EstimatedSeconds *int64 `json:"estimated_seconds"` // null: there was no rate of late
	// LastError is the latest failure of a request that goes on.
	LastError *batchErrorObject `json:"last_error"`
}

type batchErrorObject struct {
	lastErrorObject
	CustomID string `json:"custom_id"`
}

// same reports whether a watcher need not be told again.
func (o *statusObject) same(other *statusObject) bool {
	if o == nil || other == nil {
		return o == other
	}
	return o.Code == other.Code && o.Message == other.Message
}

// place says in words how much is ahead, with a blank before it; empty: nothing is.
func (o *statusObject) place() string {
	if o.RequestsAhead == nil || *o.RequestsAhead == 0 {
		return ""
	}
	text := fmt.Sprintf(" %d requests are ahead of them", *o.RequestsAhead)
	if o.EstimatedSeconds != nil {
		text += fmt.Sprintf(", for about %v", time.Duration(*o.EstimatedSeconds)*time.Second)
	}
	return text + "."
}

// waiting says what holds a batch up; nil: nothing does. It is told beside the
// batch, so an error of it is no error of the answer.
func (s *Server) waiting(ctx context.Context, b postgres.Batch) *statusObject {
	if b.Status.Terminal() {
		return nil
	}
	w, err := s.cfg.Controller.Waiting(ctx, b)
	if err != nil {
		s.cfg.Log.Debug("finding out what holds a batch up", "batch_id", b.ID, "err", err)
		return nil
	}
	return asWaiting(w)
}

func asWaiting(w *control.Waiting) *statusObject {
	if w == nil {
		return nil
	}
	o := &statusObject{Code: string(w.Code), Model: optional(string(w.Model))}
	subject := "Its requests"
	if w.Model != "" {
		subject += " of model " + string(w.Model)
	}
	if w.Others > 0 {
		subject += fmt.Sprintf(" and of %d more", w.Others)
	}
	switch w.Code {
	case control.WaitNoBroker:
		o.Message, o.Action = "NATS, the broker, cannot be reached, so nothing is dispatched.", optional("Have it started; the batch then goes on by itself.")
	case control.WaitNoConsumer:
		o.Message, o.Action = "No consumer is alive, so nothing is called.", optional("Start a consumer.")
	case control.WaitHeld:
		info := w.Hold.Cause.Info()
		o.Cause, o.Since, o.Until = optional(string(info.Cause)), unix(w.Hold.Since), unix(w.Hold.Until)
		o.Message = fmt.Sprintf("%s are held since %s: %s.", subject, w.Hold.Since.UTC().Format(time.DateTime+" MST"), info.Text)
		o.Action = optional(info.Advice + "; the batch then goes on within a minute.")
		if w.Hold.Batch != (batch.ID{}) {
			o.Action = optional(info.Advice + " that the batch was given, or create it anew with another one.")
		}
	case control.WaitAsked:
		o.Since, o.Until = unix(w.Hold.Since), unix(w.Hold.Until)
		o.Message = fmt.Sprintf("%s wait until %s: the model endpoint asked for it with status %d.", subject, w.Hold.Until.UTC().Format(time.DateTime+" MST"), w.Hold.Status)
	case control.WaitPaused:
		o.Message, o.Action = subject+" wait: an operator paused the model.", optional("Have it resumed.")
	case control.WaitBudget:
		o.Since = unix(w.Since)
		o.Message = "Its budget is spent: calls in flight end, and the rest is cancelled."
		o.Action = optional("To go on, raise the budget when it has ended, and rerun what was canceled.")
	case control.WaitRetrying:
		o.Message = subject + " fail and are called again."
	case control.WaitQueued:
		o.Message = subject + " wait until requests of others have been called."
		if w.Ahead > 0 {
			o.Message = subject + " wait until those of other batches of the same owner have been called."
		}
		o.RequestsAhead = &w.Ahead
		if w.Left > 0 {
			seconds := int64(w.Left.Round(time.Second).Seconds())
			o.EstimatedSeconds = &seconds
		}
	}
	if f := w.Failed; f != nil {
		if last := asLastError(f.Reason, f.StatusCode, f.Cause); last != nil {
			o.LastError = &batchErrorObject{*last, f.CustomID}
		}
	}
	return o
}

// errorGroupObject are requests that failed alike.
type errorGroupObject struct {
	Object     string `json:"object"`
	Code       string `json:"code"`
	StatusCode *int   `json:"status_code"` // null: there was no answer
	Message    string `json:"message"`
	Ended      bool   `json:"ended"` // they have their results; else they are called again
	Count      int64  `json:"count"`
	CustomID   string `json:"custom_id"` // of one of them
}

type errorGroupList struct {
	Object string             `json:"object"`
	Data   []errorGroupObject `json:"data"`
	// Partial: there are more failures than were counted.
	Partial bool `json:"partial"`
}

// batchErrors groups what failed, also while it is called again.
func (s *Server) batchErrors(ctx context.Context, who caller, p batchParams) (errorGroupList, error) {
	list := errorGroupList{Object: "list", Data: []errorGroupObject{}}
	b, err := s.cfg.Store.GetBatch(ctx, p.id, &who.owner)
	if err != nil {
		return list, err
	}
	groups, partial, err := s.cfg.Store.BatchErrors(ctx, b.ID)
	list.Partial = partial
	for _, g := range groups {
		o := asLastError(g.Reason, g.StatusCode, g.Cause)
		list.Data = append(list.Data, errorGroupObject{
			Object: "batch.error_group", Code: o.Code, StatusCode: o.StatusCode, Message: o.Message, Ended: g.Ended, Count: g.Count, CustomID: g.CustomID,
		})
	}
	return list, err
}
