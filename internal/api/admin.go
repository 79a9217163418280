package api

import (
	"errors"
	"net/http"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
)

// operators serves a handler to operators alone.
func (s *Server) operators(handle func(*call) (any, error)) http.Handler {
	return s.json(func(c *call) (any, error) {
		if !c.admin {
			return nil, &apiError{status: http.StatusForbidden, kind: invalidRequest, code: "operators_only",
				message: "Only operators may do that. Their keys are made by fusillade keys create --admin."}
		}
		return handle(c)
	})
}

// modelStatusObject is a model as operators see it.
type modelStatusObject struct {
	ID               string  `json:"id"`
	Object           string  `json:"object"`
	Limit            int     `json:"limit"` // 0: no dispatcher has said yet
	LimitSource      string  `json:"limit_source"`
	Paused           bool    `json:"paused"`
	Held             int     `json:"held"`
	Daemons          int     `json:"daemons"`
	Pending          int64   `json:"pending"`
	Queued           int64   `json:"queued"`
	Taken            int64   `json:"taken"`
	EscalatesTo      *string `json:"escalates_to"`
	EscalatesBefore  *int64  `json:"escalates_before_seconds"`
	EscalationSource *string `json:"escalation_source"`
	Upstream         *string `json:"upstream"`
	UpstreamKey      bool    `json:"upstream_key"`
}

func asModelStatus(m control.ModelStatus) modelStatusObject {
	out := modelStatusObject{
		ID: string(m.Model), Object: "admin.model", Limit: m.Limit, LimitSource: string(m.LimitSource), Paused: m.Paused,
		Held: m.Held, Daemons: m.Daemons, Pending: m.Pending, Queued: m.Queued, Taken: m.Taken,
		EscalatesTo: optional(string(m.Escalation.Model)), EscalationSource: optional(string(m.EscalationSource)),
		Upstream: optional(m.Upstream), UpstreamKey: m.UpstreamKey,
	}
	if out.EscalatesTo != nil {
		seconds := int64(m.Escalation.Threshold / time.Second)
		out.EscalatesBefore = &seconds
	}
	return out
}

// all is a list that has one page.
func all[T any](c *call, objects []T, id func(T) string) (any, error) {
	q, err := c.query()
	if err == nil {
		err = q.done()
	}
	if err != nil {
		return nil, err
	}
	return page(objects, len(objects), id), nil
}

func (s *Server) listModelStatuses(c *call) (any, error) {
	models, err := s.cfg.Controller.Models(c.Context())
	if err != nil {
		return nil, err
	}
	objects := make([]modelStatusObject, len(models))
	for i, m := range models {
		objects[i] = asModelStatus(m)
	}
	return all(c, objects, func(m modelStatusObject) string { return m.ID })
}

// modelChange is the body that changes a model; what it lacks stays as it is.
type modelChange struct {
	Limit             *int    `json:"limit"`
	Paused            *bool   `json:"paused"`
	EscalatesTo       *string `json:"escalates_to"` // empty: none
	EscalatesBefore   *int64  `json:"escalates_before_seconds"`
	DefaultEscalation bool    `json:"default_escalation"`
}

// maxModelName bounds the names that are kept for good.
const maxModelName = 512

func (s *Server) changeModel(c *call) (any, error) {
	var body modelChange
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	model := c.PathValue("id")
	for _, name := range []*string{&model, body.EscalatesTo} {
		if name != nil && (len(*name) > maxModelName || !isText(*name)) {
			return nil, invalid("model", codeInvalid, "A model's name must be text of at most %d bytes.", maxModelName)
		}
	}
	if model == "" {
		return nil, invalid("model", codeMissing, "The URL names no model.")
	}
	if body == (modelChange{}) {
		return nil, invalid("", codeMissing, "There is nothing to change.")
	}
	change := postgres.ModelChange{Limit: body.Limit, Paused: body.Paused, EscalateTo: (*batch.Model)(body.EscalatesTo), DefaultEscalation: body.DefaultEscalation}
	if seconds := body.EscalatesBefore; seconds != nil {
		before := time.Duration(min(max(*seconds, 0), int64(control.MaxThreshold/time.Second)+1)) * time.Second
		change.EscalateBefore = &before
	}
	err := s.cfg.Controller.ChangeModel(c.Context(), batch.Model(model), change)
	var bad *control.InvalidChangeError
	switch {
	case errors.As(err, &bad):
		return nil, invalid(bad.Field, codeInvalid, "%s.", bad)
	case errors.Is(err, batch.ErrConflict):
		return nil, conflict("no_escalation", "The model has no escalation of its own: escalates_to is needed too.")
	case err != nil:
		return nil, err
	}
	models, err := s.cfg.Controller.Models(c.Context())
	if err != nil {
		return nil, err
	}
	for _, m := range models {
		if m.Model == batch.Model(model) {
			return asModelStatus(m), nil
		}
	}
	return nil, notFound("model", model)
}

// daemonObject is a process that works on requests, or has.
type daemonObject struct {
	ID             string `json:"id"`
	Object         string `json:"object"`
	Role           string `json:"role"`
	Host           string `json:"host"`
	PID            int    `json:"pid"`
	Version        string `json:"version"`
	Status         string `json:"status"`
	StartedAt      int64  `json:"started_at"`
	HeartbeatAgeMS int64  `json:"heartbeat_age_ms"`
	InFlight       int    `json:"in_flight"`
	Processed      int64  `json:"processed"` // completed or failed
	Failed         int64  `json:"failed"`
}

// listDaemons lists those that live, and with all=true those that have ended,
// for a day.
func (s *Server) listDaemons(c *call) (any, error) {
	q, err := c.query()
	if err != nil {
		return nil, err
	}
	ended := q.oneOf("all", "false", "true") == "true"
	if err := q.done(); err != nil {
		return nil, err
	}
	records, err := s.cfg.Store.Daemons(c.Context())
	if err != nil {
		return nil, err
	}
	objects := make([]daemonObject, 0, len(records))
	for _, d := range records {
		if ended || d.Status != "dead" {
			objects = append(objects, daemonObject{
				ID: d.ID.String(), Object: "admin.daemon", Role: d.Role, Host: d.Host, PID: d.PID, Version: d.Version, Status: d.Status,
				StartedAt: d.StartedAt.Unix(), HeartbeatAgeMS: max(d.HeartbeatAge.Milliseconds(), 0),
				InFlight: d.InFlight, Processed: d.Completed + d.Failed, Failed: d.Failed,
			})
		}
	}
	return page(objects, len(objects), func(d daemonObject) string { return d.ID }), nil
}

// demandObject is what waits for one model in batches of one window.
type demandObject struct {
	Object           string `json:"object"`
	Model            string `json:"model"`
	CompletionWindow string `json:"completion_window"`
	Pending          int64  `json:"pending"`
	ExpiresAt        int64  `json:"expires_at"` // the earliest deadline
}

func (s *Server) listDemand(c *call) (any, error) {
	demand, err := s.cfg.Store.Demand(c.Context())
	if err != nil {
		return nil, err
	}
	objects := make([]demandObject, len(demand))
	for i, d := range demand {
		objects[i] = demandObject{Object: "admin.demand", Model: string(d.Model), CompletionWindow: d.Window, Pending: d.Pending, ExpiresAt: d.Deadline.Unix()}
	}
	return all(c, objects, func(d demandObject) string { return d.Model })
}
