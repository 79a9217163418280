package api

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
)

// modelStatusObject is a model as operators see it.
type modelStatusObject struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Limit       int    `json:"limit"` // 0: no dispatcher has said yet
	LimitSource string `json:"limit_source"`
	// LimitAuto is of a limit that is found while it runs.
	LimitAuto        *limitAutoObject `json:"limit_auto"`
	Paused           bool             `json:"paused"`
	Held             int              `json:"held"`
	Daemons          int              `json:"daemons"`
	Pending          int64            `json:"pending"`
	Queued           int64            `json:"queued"`
	Taken            int64            `json:"taken"`
	EscalatesTo      *string          `json:"escalates_to"`
	EscalatesBefore  *int64           `json:"escalates_before_seconds"`
	EscalationSource *string          `json:"escalation_source"`
	Upstream         *string          `json:"upstream"`
	UpstreamKey      bool             `json:"upstream_key"`
	// UpstreamOptions is how that endpoint is spoken to; null: as OpenAI's.
	UpstreamOptions *upstreamOptionsObject `json:"upstream_options"`
	// Holds are of credentials whose endpoint asked for a pause.
	Holds []holdObject `json:"holds"`
	// The rate limit; null: there is none.
	RequestsPerMinute *int64 `json:"requests_per_minute"`
	TokensPerMinute   *int64 `json:"tokens_per_minute"`
	// RateSource is who decided it.
	RateSource *string `json:"rate_source"`
	// What the last minute has had of it, what is leased included.
	RequestsLastMinute int64 `json:"requests_last_minute"`
	TokensLastMinute   int64 `json:"tokens_last_minute"`
}

// upstreamOptionsObject holds no secret: of headers it has the names.
type upstreamOptionsObject struct {
	URLs         []string `json:"urls"` // all of them, if there are several
	Auth         *string  `json:"auth"`
	Headers      []string `json:"headers"`
	Path         *string  `json:"path"`
	Model        *string  `json:"model"`
	Stream       *string  `json:"stream"`
	SendPriority *string  `json:"send_priority"`
}

func asUpstreamOptions(m control.ModelStatus) *upstreamOptionsObject {
	o := m.Options
	if o.IsZero() {
		return nil
	}
	out := &upstreamOptionsObject{
		URLs: []string{}, Auth: optional(string(o.Auth)), Headers: o.Headers.Names(), Path: optional(string(o.Path)), Model: optional(o.Model), Stream: optional(string(o.Stream)),
		SendPriority: optional(string(o.SendPriority)),
	}
	if len(o.More) > 0 {
		out.URLs = append([]string{m.Upstream}, o.More...)
	}
	return out
}

// limitAutoObject says how an automatic limit came to be what it is.
type limitAutoObject struct {
	Min             int     `json:"min"`
	Max             int     `json:"max"`
	Cause           *string `json:"cause"` // of the last change
	ChangedFrom     *int    `json:"changed_from"`
	ChangedAt       *int64  `json:"changed_at"` // Unix seconds
	CallsPerSecond  float64 `json:"calls_per_second"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

func asLimitAuto(a *slots.Auto) *limitAutoObject {
	if a == nil {
		return nil
	}
	out := &limitAutoObject{Min: a.Least, Max: a.Most, Cause: optional(string(a.Cause)), CallsPerSecond: a.CallsPerSecond, TokensPerSecond: a.TokensPerSecond}
	if a.Cause != "" {
		changed := a.Changed.Unix()
		out.ChangedFrom, out.ChangedAt = &a.From, &changed
	}
	return out
}

func (m modelStatusObject) id() string { return m.ID }

func asModelStatus(m control.ModelStatus) modelStatusObject {
	out := modelStatusObject{
		ID: string(m.Model), Object: "admin.model", Limit: m.Limit, LimitSource: string(m.LimitSource), LimitAuto: asLimitAuto(m.Auto), Paused: m.Paused,
		Held: m.Held, Daemons: m.Daemons, Pending: m.Pending, Queued: m.Queued, Taken: m.Taken,
		EscalatesTo: optional(string(m.Escalation.Model)), EscalationSource: optional(string(m.EscalationSource)),
		Upstream: optional(m.Upstream), UpstreamKey: m.UpstreamKey, UpstreamOptions: asUpstreamOptions(m), Holds: asHolds(m.Holds),
	}
	out.RateSource = optional(string(m.RateSource))
	out.RequestsPerMinute, out.TokensPerMinute = positive(m.Rate.Requests), positive(m.Rate.Tokens)
	out.RequestsLastMinute, out.TokensLastMinute = m.Used.Requests, m.Used.Tokens
	if out.EscalatesTo != nil {
		seconds := int64(m.Escalation.Threshold / time.Second)
		out.EscalatesBefore = &seconds
	}
	return out
}

// positive is null for 0.
func positive(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

func (s *Server) listModelStatuses(ctx context.Context, _ caller, _ none) (page[modelStatusObject], error) {
	models, err := s.cfg.Controller.Models(ctx)
	return wholePage(models, asModelStatus), err
}

// modelChangeParams name a model, and what to change about it; what the body
// lacks stays as it is.
type modelChangeParams struct {
	name     string
	body     modelChange
	endpoint control.ModelEndpoint
}

type modelChange struct {
	Limit             *limitChange `json:"limit"` // 0: as the environment says
	Paused            *bool        `json:"paused"`
	EscalatesTo       *string      `json:"escalates_to"` // empty: none
	EscalatesBefore   *int64       `json:"escalates_before_seconds"`
	DefaultEscalation bool         `json:"default_escalation"`
	RequestsPerMinute *int64       `json:"requests_per_minute"` // 0: as the environment says
	TokensPerMinute   *int64       `json:"tokens_per_minute"`
	endpointChange
}

// attrs are what is changed, for the log.
func (c *modelChange) attrs() (attrs []any) {
	add := func(name string, given bool, value func() any) {
		if given {
			attrs = append(attrs, name, value())
		}
	}
	add("limit", c.Limit != nil, func() any { return c.Limit.text })
	add("paused", c.Paused != nil, func() any { return *c.Paused })
	add("escalates_to", c.EscalatesTo != nil, func() any { return *c.EscalatesTo })
	add("escalates_before_seconds", c.EscalatesBefore != nil, func() any { return *c.EscalatesBefore })
	add("default_escalation", c.DefaultEscalation, func() any { return true })
	add("requests_per_minute", c.RequestsPerMinute != nil, func() any { return *c.RequestsPerMinute })
	add("tokens_per_minute", c.TokensPerMinute != nil, func() any { return *c.TokensPerMinute })
	return append(attrs, c.endpointChange.attrs()...)
}

// limitChange is a number, or auto with or without bounds.
type limitChange struct{ text string }

// UnmarshalJSON implements json.Unmarshaler.
func (l *limitChange) UnmarshalJSON(raw []byte) error {
	var n int64
	if json.Unmarshal(raw, &n) == nil {
		l.text = strconv.FormatInt(n, 10)
		return nil
	}
	return json.Unmarshal(raw, &l.text)
}

// limit reads it. False: it is none.
func (l *limitChange) limit() (batch.Limit, bool) {
	if l.text == "0" {
		return 0, true
	}
	limit, err := batch.ParseLimit(l.text)
	return limit, err == nil
}

// settings reports whether there is anything to change beside the endpoint.
func (c *modelChange) settings() bool {
	return c.DefaultEscalation || c.Limit != nil || c.Paused != nil || c.EscalatesTo != nil || c.EscalatesBefore != nil || c.RequestsPerMinute != nil || c.TokensPerMinute != nil
}

func (p *modelChangeParams) read(in *input) {
	p.name = in.pathID("model")
	in.required("model", p.name, maxModelBytes)
	in.json(&p.body)
	var err error
	if to := p.body.EscalatesTo; to != nil && *to != "" {
		in.checkText("escalates_to", *to, maxModelBytes)
	}
	if l := p.body.Limit; l != nil {
		if _, ok := l.limit(); !ok {
			in.fail(invalid("limit", codeInvalid, "limit must be from 0 to %d, or \"auto\", or \"auto:MIN-MAX\" with 1 ≤ MIN ≤ MAX.", batch.MaxLimit))
		}
	}
	if p.endpoint, err = p.body.endpointChange.parse(); err != nil {
		in.fail(err)
	}
	if !p.body.settings() && !p.body.endpointChange.given() {
		in.fail(invalid("", codeMissing, "There is nothing to change."))
	}
}

func (s *Server) changeModel(ctx context.Context, who caller, p modelChangeParams) (modelStatusObject, error) {
	change := postgres.ModelChange{
		Paused:     p.body.Paused,
		EscalateTo: (*batch.Model)(p.body.EscalatesTo), DefaultEscalation: p.body.DefaultEscalation,
		RequestsPerMinute: p.body.RequestsPerMinute, TokensPerMinute: p.body.TokensPerMinute,
	}
	if l := p.body.Limit; l != nil {
		limit, _ := l.limit()
		change.Limit = &limit
	}
	if seconds := p.body.EscalatesBefore; seconds != nil {
		// Beyond the bounds, which the controller checks, without an overflow.
		before := time.Duration(min(max(*seconds, 0), int64(control.MaxThreshold/time.Second)+1)) * time.Second
		change.EscalateBefore = &before
	}
	// Two writes: a crash between them leaves the settings changed and the endpoint
	// not. The client has no answer then, and the same request does both again.
	if p.body.settings() {
		if err := s.cfg.Controller.ChangeModel(ctx, batch.Model(p.name), change); err != nil {
			return modelStatusObject{}, err
		}
	}
	if p.body.endpointChange.given() {
		if err := s.cfg.Controller.SetModelEndpoint(ctx, batch.Model(p.name), p.endpoint); err != nil {
			return modelStatusObject{}, err
		}
	}
	s.Audit(s.public(who), "model changed", append([]any{"model", p.name}, p.body.attrs()...)...)
	models, err := s.cfg.Controller.Models(ctx)
	for _, m := range models {
		if m.Model == batch.Model(p.name) {
			return asModelStatus(m), nil
		}
	}
	if err == nil {
		err = batch.ErrNotFound
	}
	return modelStatusObject{}, err
}
