package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// ModelSettings are what operators have decided about a model.
type ModelSettings struct {
	Limit  batch.Limit // 0: as the environment says
	Paused bool
	Rate   batch.RateLimit // zero fields: as the environment says
	// Escalation is nil as long as the environment decides, and has no model
	// if there is to be none.
	Escalation *batch.Escalation
}

const modelSettingsSQL = `
SELECT model, COALESCE(concurrency_limit, 0), COALESCE(concurrency_least, 0), COALESCE(concurrency_most, 0), paused, escalation_model, COALESCE(escalation_threshold_seconds, 0),
       COALESCE(requests_per_minute, 0), COALESCE(tokens_per_minute, 0) FROM models`

// ModelSettings returns what operators have decided, by model.
func (s *Store) ModelSettings(ctx context.Context) (map[batch.Model]ModelSettings, error) {
	settings := make(map[batch.Model]ModelSettings)
	if err := s.together(ctx, readSettings(settings)); err != nil {
		return nil, fmt.Errorf("reading model settings: %w", err)
	}
	return settings, nil
}

// readSettings reads them into a map.
func readSettings(settings map[batch.Model]ModelSettings) read {
	var model string
	var m ModelSettings
	var to *string
	var seconds, limit, least, most int
	into := []any{&model, &limit, &least, &most, &m.Paused, &to, &seconds, &m.Rate.Requests, &m.Rate.Tokens}
	return read{sql: modelSettingsSQL, into: into, each: func() {
		if m.Limit = batch.Limit(limit); limit == 0 && least > 0 {
			m.Limit = batch.AutoLimit(least, most)
		}
		m.Escalation = nil
		if to != nil {
			m.Escalation = &batch.Escalation{Model: batch.Model(*to), Threshold: time.Duration(seconds) * time.Second}
		}
		settings[batch.Model(model)] = m
	}}
}

// ModelChange is what to change about a model; nil: leave it as it is.
type ModelChange struct {
	Limit  *batch.Limit // 0: as the environment says
	Paused *bool
	// EscalateTo is the escalation model; empty: none, whatever the environment
	// says. Its threshold is EscalateBefore, else what it was, else the default.
	EscalateTo *batch.Model
	// EscalateBefore is the threshold, in whole seconds.
	EscalateBefore *time.Duration
	// DefaultEscalation leaves the escalation to the environment.
	DefaultEscalation bool
	// RequestsPerMinute and TokensPerMinute are the rate limit; 0: as the
	// environment says.
	RequestsPerMinute, TokensPerMinute *int64
}

// One statement, so that changes of different settings at the same time do not
// undo one another.
const changeModelSQL = `
INSERT INTO models AS m (model, concurrency_limit, concurrency_least, concurrency_most, paused, escalation_model, escalation_threshold_seconds,
                         requests_per_minute, tokens_per_minute)
SELECT $1, NULLIF($2::int, 0), NULLIF($10::int, 0), NULLIF($11::int, 0), COALESCE($3::boolean, false), $4::text,
       CASE WHEN $4 <> '' THEN COALESCE($5::int, $6::int) END, NULLIF($8::bigint, 0), NULLIF($9::bigint, 0)
    ON CONFLICT (model) DO UPDATE
   SET concurrency_limit = CASE WHEN $2 IS NULL THEN m.concurrency_limit ELSE NULLIF($2, 0) END,
       concurrency_least = CASE WHEN $2 IS NULL THEN m.concurrency_least ELSE NULLIF($10, 0) END,
       concurrency_most = CASE WHEN $2 IS NULL THEN m.concurrency_most ELSE NULLIF($11, 0) END,
       paused = COALESCE($3, m.paused),
       escalation_model = CASE WHEN $7::boolean THEN NULL ELSE COALESCE($4, m.escalation_model) END,
       escalation_threshold_seconds = CASE WHEN $7 OR COALESCE($4, m.escalation_model, '') = '' THEN NULL
                                           ELSE COALESCE($5, m.escalation_threshold_seconds, $6) END,
       requests_per_minute = CASE WHEN $8 IS NULL THEN m.requests_per_minute ELSE NULLIF($8, 0) END,
       tokens_per_minute = CASE WHEN $9 IS NULL THEN m.tokens_per_minute ELSE NULLIF($9, 0) END,
       updated_at = now()
RETURNING escalation_threshold_seconds`

// ChangeModel changes settings of a model for the whole cluster. It returns
// batch.ErrNoEscalation for a threshold without an escalation model, and changes
// nothing then.
func (s *Store) ChangeModel(ctx context.Context, model batch.Model, c ModelChange) error {
	var to *string
	if c.EscalateTo != nil {
		to = (*string)(c.EscalateTo)
	}
	var before *int64
	if c.EscalateBefore != nil {
		seconds := int64(*c.EscalateBefore / time.Second)
		before = &seconds
	}
	var limit *int64
	least, most := 0, 0
	if c.Limit != nil {
		n := int64(*c.Limit)
		var auto bool
		if least, most, auto = c.Limit.Auto(); auto {
			n = 0
		}
		limit = &n
	}
	err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var threshold *int64
		err := tx.QueryRow(ctx, changeModelSQL, string(model), limit, c.Paused, to, before,
			int64(batch.DefaultEscalationThreshold/time.Second), c.DefaultEscalation, c.RequestsPerMinute, c.TokensPerMinute, least, most).Scan(&threshold)
		if err == nil && before != nil && threshold == nil {
			err = batch.ErrNoEscalation
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("changing model %q: %w", model, err)
	}
	return nil
}
