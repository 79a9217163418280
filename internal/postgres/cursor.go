package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Kind says which of a batch's requests wait.
type Kind int8

// The kinds, in the order in which those of one batch are claimed.
const (
	DueRetry Kind = iota // due: automatic retries, and what was released
	DueRerun             // due: rerun, and not called since
	Fresh                // never claimed: the lines beyond the batch's cursor
)

// Cursor is what waits for a claim of one batch, for one model, of one kind.
type Cursor struct {
	Kind      Kind
	Batch     batch.ID
	Route     Route // by which its requests come to the model that was asked for, if they are fresh
	Remaining int   // at least so many
	More      bool  // and more than that
	ExpiresAt time.Time
	Left      time.Duration // before it expires, by Postgres's clock
	CreatedAt time.Time
	CreatedBy string
	Priority  int     // among the batches of the user who created it; the highest comes first
	Weight    float64 // of the user who created it
	HasOwnKey bool    // its calls have the batch's own API key
}

// Compare orders cursors by urgency: by deadline, then by age, then by kind.
func (c Cursor) Compare(other Cursor) int {
	return cmp.Or(c.ExpiresAt.Compare(other.ExpiresAt), c.CreatedAt.Compare(other.CreatedAt), slices.Compare(c.Batch[:], other.Batch[:]),
		cmp.Compare(c.Kind, other.Kind), cmp.Compare(c.Route.From, other.Route.From))
}

const (
	// maxUsers are looked at in one call of OpenCursors, and up to cursorsInAll
	// batches of theirs, but at least minCursors of each user.
	maxUsers     = 512
	minCursors   = 4
	cursorsInAll = 1024
	// urgentCursors are the most urgent batches beside, of all owners.
	urgentCursors = 128
)

const (
	// A route's bounds as points in time.
	routesCTE = `
routes AS MATERIALIZED (
    SELECT r.place::int - 1 AS route, r.model,
           CASE WHEN r.at_least > 0 THEN now() + r.at_least * interval '1 us' ELSE '-infinity' END AS earliest,
           CASE WHEN r.below > 0 THEN now() + r.below * interval '1 us' ELSE 'infinity' END AS latest
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r (model, at_least, below, place)
)`

	cursorColumns = `
c.batch_id, c.total - c.claimed - c.skipped AS remaining, c.expires_at,
(extract(epoch FROM c.expires_at - now()) * 1e6)::bigint AS left_us, b.created_at, c.created_by, b.brings_key, c.priority`

	// Jumps from user to user in the index, and takes each one's most urgent
	// batches: the cost follows the numbers that are asked for, however many
	// batches are open. There is a row without a batch if nothing is found.
	userCursorsSQL = `
WITH RECURSIVE` + routesCTE + `, askers AS (
    SELECT r.route, r.model, 1 AS place,
           (SELECT created_by FROM cursors WHERE model = r.model AND open AND created_by >= $4
             ORDER BY created_by LIMIT 1) AS name
      FROM routes r
     UNION ALL
    SELECT a.route, a.model, a.place + 1,
           (SELECT created_by FROM cursors WHERE model = a.model AND open AND created_by > a.name
             ORDER BY created_by LIMIT 1)
      FROM askers a WHERE a.name IS NOT NULL AND a.place < $5
), found AS MATERIALIZED (
    SELECT count(name) AS n, COALESCE(min(name) FILTER (WHERE place = $5), '') AS next FROM askers
)
SELECT f.next, r.route, c.batch_id, c.remaining, c.expires_at, c.left_us, c.created_at, c.created_by, c.brings_key, c.priority, COALESCE(u.weight, 1)
  FROM found f
  LEFT JOIN (askers a
       JOIN routes r ON r.route = a.route
      CROSS JOIN LATERAL (
           SELECT ` + cursorColumns + `
             FROM cursors c JOIN batches b ON b.id = c.batch_id AND b.status = 'in_progress'
            WHERE c.model = r.model AND c.open AND c.created_by = a.name
              AND c.expires_at >= r.earliest AND c.expires_at < r.latest AND c.batch_id <> ALL ($8::uuid[])
            ORDER BY c.created_by, c.priority DESC, c.expires_at
            LIMIT (SELECT greatest($6::bigint, $7 / greatest(n, 1)) FROM found)) c
       LEFT JOIN users u ON u.name = a.name) ON true`

	urgentCursorsSQL = `
WITH` + routesCTE + `
SELECT '', r.route, c.batch_id, c.remaining, c.expires_at, c.left_us, c.created_at, c.created_by, c.brings_key, c.priority, COALESCE(u.weight, 1)
  FROM routes r
 CROSS JOIN LATERAL (
      SELECT ` + cursorColumns + `
        FROM cursors c JOIN batches b ON b.id = c.batch_id AND b.status = 'in_progress'
       WHERE c.model = r.model AND c.open AND c.expires_at >= r.earliest AND c.expires_at < r.latest
         AND c.batch_id <> ALL ($5::uuid[])
       ORDER BY c.model, c.expires_at LIMIT $4) c
  LEFT JOIN users u ON u.name = c.created_by`
)

// OpenCursors lists batches that have pending requests which come to the
// model by one of the routes, most urgent first: of each owner some, and these
// are their most urgent ones. If there are too many owners, next is where to go
// on with the next call, so that each has their turn, and the list has the most
// urgent batches of all owners beside. Begin with an empty from.
func (s *Store) OpenCursors(ctx context.Context, model batch.Model, via []Route, from string) (cursors []Cursor, next string, err error) {
	r := newRoutes(len(via))
	for _, route := range via {
		r.add(model, route)
	}
	list := func(sql string, args ...any) {
		if err == nil {
			var found []Cursor
			found, next, err = s.cursors(ctx, via, sql, append([]any{r.models, r.atLeast, r.below}, args...)...)
			cursors = append(cursors, found...)
		}
	}
	list(userCursorsSQL, from, maxUsers, minCursors, cursorsInAll, s.excluded)
	if from != "" && next == "" { // these were the last ones
		list(userCursorsSQL, "", maxUsers, minCursors, cursorsInAll, s.excluded)
	}
	if from != "" || next != "" {
		following := next
		list(urgentCursorsSQL, urgentCursors, s.excluded)
		next = following
	}
	if err != nil {
		return nil, "", fmt.Errorf("listing cursors: %w", err)
	}
	slices.SortFunc(cursors, Cursor.Compare)
	return slices.CompactFunc(cursors, func(a, b Cursor) bool { return a.Batch == b.Batch && a.Route == b.Route }), next, nil
}

func (s *Store) cursors(ctx context.Context, via []Route, sql string, args ...any) (cursors []Cursor, next string, err error) {
	var id *[16]byte
	var route, remaining *int
	var expires, created *time.Time
	var left *int64
	var name *string
	var ownKey *bool
	var priority *int
	var weight float64
	err = s.forEach(ctx, sql, args, []any{&next, &route, &id, &remaining, &expires, &left, &created, &name, &ownKey, &priority, &weight}, func() {
		if id != nil {
			cursors = append(cursors, Cursor{
				Kind: Fresh, Batch: batch.ID(*id), Route: via[*route], Remaining: *remaining, ExpiresAt: *expires,
				Left: time.Duration(*left) * time.Microsecond, CreatedAt: *created, CreatedBy: *name, Priority: *priority, Weight: weight, HasOwnKey: *ownKey,
			})
		}
	})
	return cursors, next, err
}

const nextOnRoutesSQL = `
WITH` + routesCTE + `
SELECT COALESCE((extract(epoch FROM min(c.expires_at - r.latest)) * 1e6)::bigint, -1)
  FROM routes r
 CROSS JOIN LATERAL (
      SELECT expires_at FROM cursors
       WHERE model = r.model AND open AND expires_at >= r.latest
       ORDER BY model, expires_at LIMIT 1) c`

// NextOnRoutes is the time until the next batch has so little time left that
// its requests come to the model by one of the routes; false: there is none.
func (s *Store) NextOnRoutes(ctx context.Context, model batch.Model, via []Route) (time.Duration, bool, error) {
	r := newRoutes(len(via))
	for _, route := range via {
		r.add(model, route)
	}
	var micros int64
	if err := s.queryRow(ctx, nextOnRoutesSQL, []any{r.models, r.atLeast, r.below}, &micros); err != nil {
		return 0, false, fmt.Errorf("looking for the next cursor: %w", err)
	}
	return time.Duration(micros) * time.Microsecond, micros >= 0, nil
}

// Jumps from model to model: the cost follows their number.
const waitingModelsSQL = `
WITH RECURSIVE claimable AS (
    (SELECT model FROM cursors WHERE open ORDER BY model LIMIT 1)
     UNION ALL
    SELECT (SELECT model FROM cursors WHERE open AND model > m.model ORDER BY model LIMIT 1)
      FROM claimable m WHERE m.model IS NOT NULL
), due AS (
    (SELECT routed_model AS model FROM requests WHERE due_at IS NOT NULL ORDER BY routed_model LIMIT 1)
     UNION ALL
    SELECT (SELECT routed_model FROM requests WHERE due_at IS NOT NULL AND routed_model > m.model ORDER BY routed_model LIMIT 1)
      FROM due m WHERE m.model IS NOT NULL
)
SELECT m.model FROM claimable m
 CROSS JOIN LATERAL (
      SELECT FROM cursors c JOIN batches b ON b.id = c.batch_id AND b.status = 'in_progress'
       WHERE c.model = m.model AND c.open LIMIT 1) any_batch
 UNION
SELECT model FROM due WHERE model IS NOT NULL`

// WaitingModels lists the models that requests wait for.
func (s *Store) WaitingModels(ctx context.Context) ([]batch.Model, error) {
	models, err := collect(ctx, s, pgx.RowTo[string], waitingModelsSQL)
	if err != nil {
		return nil, fmt.Errorf("listing models: %w", err)
	}
	out := make([]batch.Model, len(models))
	for i, m := range models {
		out[i] = batch.Model(m)
	}
	return out, nil
}
