package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// LimitAuto says how a limit that is found while it runs came to be what it is.
type LimitAuto struct {
	Min             int     `json:"min"`
	Max             int     `json:"max"`
	Cause           string  `json:"cause"` // of the last change; empty: there was none
	ChangedFrom     int     `json:"changed_from"`
	ChangedAt       int64   `json:"changed_at"` // Unix seconds
	CallsPerSecond  float64 `json:"calls_per_second"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

// ModelStatus is a model as operators see it.
type ModelStatus struct {
	Raw
	ID               string     `json:"id"`
	Limit            int        `json:"limit"`        // calls in flight, in the whole cluster; 0: no dispatcher has said yet
	LimitSource      string     `json:"limit_source"` // operator or environment
	LimitAuto        *LimitAuto `json:"limit_auto"`   // nil: the limit is a number
	Paused           bool       `json:"paused"`
	Held             int        `json:"held"`    // slots that daemons hold
	Daemons          int        `json:"daemons"` // that hold slots
	Pending          int64      `json:"pending"` // requests that were never claimed
	Queued           int64      `json:"queued"`  // messages that no consumer has taken
	Taken            int64      `json:"taken"`   // messages in flight or in backoff
	EscalatesTo      string     `json:"escalates_to"`
	EscalatesSeconds int64      `json:"escalates_before_seconds"`
	EscalationSource string     `json:"escalation_source"`
	// The rate limit, and what the last minute has had of it; 0: there is none.
	RequestsPerMinute  int64  `json:"requests_per_minute"`
	TokensPerMinute    int64  `json:"tokens_per_minute"`
	RequestsLastMinute int64  `json:"requests_last_minute"`
	TokensLastMinute   int64  `json:"tokens_last_minute"`
	Upstream           string `json:"upstream"`     // where operators have its calls go
	UpstreamKey        bool   `json:"upstream_key"` // there is a key for it in the database
	// UpstreamOptions is how it is spoken to; nil: as OpenAI's.
	UpstreamOptions *UpstreamOptions `json:"upstream_options"`
	Holds           []Hold           `json:"holds"`
}

// UpstreamOptions is how a model's endpoint is spoken to.
type UpstreamOptions struct {
	URLs         []string `json:"urls"` // all of them, if there are several
	Auth         string   `json:"auth"`
	Headers      []string `json:"headers"` // their names
	Path         string   `json:"path"`
	Model        string   `json:"model"`         // the model's name there
	Stream       string   `json:"stream"`        // on or off; empty: as the consumers' environment says
	SendPriority string   `json:"send_priority"` // likewise
}

// Hold is a pause that a model's endpoint asked for, or, with a Cause, a hold until
// the endpoint refuses the calls no more.
type Hold struct {
	BatchID string `json:"batch_id"` // whose own API key is held; empty: that of all batches without one
	Status  int    `json:"status"`   // of the response that asked for it
	Since   int64  `json:"since"`    // in Unix seconds, as is Until
	Until   int64  `json:"until"`    // with a cause: when the next call finds out
	Cause   string `json:"cause"`    // empty: the endpoint asked for a pause
	Detail  string `json:"detail"`   // of the cause, for operators
	Owner   string `json:"owner"`    // whose requests alone are held; empty: everybody's
	Action  string `json:"action"`   // what to do about the cause
}

// LiftHolds ends a model's holds in the whole cluster, or only that of one batch.
// It returns how many there were. It takes an operator's key.
func (c *Client) LiftHolds(ctx context.Context, model, batchID string) (int, error) {
	query := url.Values{"model": {model}}
	if batchID != "" {
		query.Set("batch_id", batchID)
	}
	lifted, err := read[struct {
		Raw
		Lifted int `json:"lifted"`
	}](c.call(ctx, http.MethodDelete, "/admin/v1/holds", query, nil))
	return lifted.Lifted, err
}

// ModelStatuses walks all models. It takes an operator's key.
func (c *Client) ModelStatuses(ctx context.Context) iter.Seq2[ModelStatus, error] {
	return list[ModelStatus](ctx, c, "/admin/v1/models", nil)
}

// Limit is the most calls in flight to a model: a number such as "32", "auto" or
// "auto:MIN-MAX" for as many as the endpoint takes, or "0" for what the dispatchers'
// environment says.
type Limit string

// MarshalJSON writes a number as one, and anything else as text, which the server
// checks.
func (l Limit) MarshalJSON() ([]byte, error) {
	if n, err := strconv.Atoi(string(l)); err == nil {
		return strconv.AppendInt(nil, int64(n), 10), nil
	}
	return json.Marshal(string(l))
}

// ModelChange is what to change about a model; nil: leave it as it is.
type ModelChange struct {
	Limit             *Limit  `json:"limit,omitempty"`
	Paused            *bool   `json:"paused,omitempty"`
	EscalatesTo       *string `json:"escalates_to,omitempty"` // empty: none
	EscalatesSeconds  *int64  `json:"escalates_before_seconds,omitempty"`
	DefaultEscalation bool    `json:"default_escalation,omitempty"`
	RequestsPerMinute *int64  `json:"requests_per_minute,omitempty"` // 0: as the environment says
	TokensPerMinute   *int64  `json:"tokens_per_minute,omitempty"`
	*ModelEndpoint
}

// ModelEndpoint is what to change about where a model's calls go, and how; nil and
// empty: leave it as it is.
type ModelEndpoint struct {
	URLs         []string          `json:"upstream_urls,omitempty"`    // with another first one all of the rest is forgotten
	APIKey       string            `json:"upstream_api_key,omitempty"` // stored encrypted and never shown
	Auth         *string           `json:"upstream_auth,omitempty"`    // bearer, api-key, x-api-key, basic, none, or a header with {key} in it
	Headers      map[string]string `json:"upstream_headers,omitempty"` // added, stored encrypted; an empty value removes one
	NoHeaders    bool              `json:"no_upstream_headers,omitempty"`
	Path         *string           `json:"upstream_path,omitempty"`
	Model        *string           `json:"upstream_model,omitempty"`         // the model's name there
	Stream       *string           `json:"upstream_stream,omitempty"`        // on, off or default
	SendPriority *string           `json:"upstream_send_priority,omitempty"` // likewise
	Default      bool              `json:"default_upstream,omitempty"`       // as the consumers' environment says; excludes the others
}

// ChangeModel changes a model for the whole cluster. It takes an operator's key.
func (c *Client) ChangeModel(ctx context.Context, model string, change ModelChange) (ModelStatus, error) {
	// Names hold slashes, which the route takes as they are; but a name such as
	// a/../b must not become another.
	escaped := strings.ReplaceAll(url.PathEscape(model), ".", "%2E")
	return read[ModelStatus](c.call(ctx, http.MethodPatch, "/admin/v1/models/"+escaped, nil, change))
}

// Demand is what waits for one model in batches of one completion window.
type Demand struct {
	Raw
	Model            string `json:"model"`
	CompletionWindow string `json:"completion_window"`
	Pending          int64  `json:"pending"`    // requests that wait for a claim
	ExpiresAt        int64  `json:"expires_at"` // the earliest deadline, in Unix seconds
}

// Demand walks what waits, by model and window. It takes an operator's key.
func (c *Client) Demand(ctx context.Context) iter.Seq2[Demand, error] {
	return list[Demand](ctx, c, "/admin/v1/demand", nil)
}

// Daemon is a process that works on requests, or has.
type Daemon struct {
	Raw
	ID             string `json:"id"`
	Role           string `json:"role"`
	Host           string `json:"host"`
	PID            int    `json:"pid"`
	Status         string `json:"status"`
	HeartbeatAgeMS int64  `json:"heartbeat_age_ms"`
	InFlight       int    `json:"in_flight"`
	Processed      int64  `json:"processed"` // completed or failed
	Failed         int64  `json:"failed"`
}

// Daemons walks those that live; with ended, also the others, for a day. It
// takes an operator's key.
func (c *Client) Daemons(ctx context.Context, ended bool) iter.Seq2[Daemon, error] {
	query := make(url.Values)
	if ended {
		query.Set("all", "true")
	}
	return list[Daemon](ctx, c, "/admin/v1/daemons", query)
}
