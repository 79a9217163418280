package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

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

// Waiting is what waits for a claim, for one model.
type Waiting struct {
	Cursors []Cursor
	// From and FromDue are where the next call goes on; zero: at the beginning.
	From    string
	FromDue batch.ID
}

// Waiting lists what OpenCursors and DueBatches do, commonly in one round trip, and in
// this order.
func (s *Store) Waiting(ctx context.Context, model batch.Model, via []Route, from string, fromDue batch.ID) (w Waiting, err error) {
	open, due := cursorList{via: via, routes: routesTo(model, via)}, dueList{model: model}
	err = s.together(ctx, open.read(userCursorsSQL, from, maxUsers, minCursors, cursorsInAll, s.excluded), due.read(fromDue, s.excluded))
	if err == nil {
		err = open.goOn(ctx, s, from)
	}
	if err == nil {
		err = due.goOn(ctx, s, fromDue)
	}
	if err != nil {
		return Waiting{}, fmt.Errorf("listing what waits: %w", err)
	}
	return Waiting{Cursors: append(open.sorted(), due.compact()...), From: open.next, FromDue: due.next}, nil
}

// OpenCursors lists batches that have pending requests which come to the
// model by one of the routes, most urgent first: of each owner some, and these
// are their most urgent ones. If there are too many owners, next is where to go
// on with the next call, so that each has their turn, and the list has the most
// urgent batches of all owners beside. Begin with an empty from.
func (s *Store) OpenCursors(ctx context.Context, model batch.Model, via []Route, from string) (cursors []Cursor, next string, err error) {
	open := cursorList{via: via, routes: routesTo(model, via)}
	err = s.together(ctx, open.read(userCursorsSQL, from, maxUsers, minCursors, cursorsInAll, s.excluded))
	if err == nil {
		err = open.goOn(ctx, s, from)
	}
	if err != nil {
		return nil, "", fmt.Errorf("listing cursors: %w", err)
	}
	return open.sorted(), open.next, nil
}

// cursorList are listed by one call.
type cursorList struct {
	via     []Route
	routes  *routes
	cursors []Cursor
	next    string
}

func routesTo(model batch.Model, via []Route) *routes {
	r := newRoutes(len(via))
	for _, route := range via {
		r.add(model, route)
	}
	return r
}

// goOn lists more after those from there on: from the beginning, if these were the
// last ones, and the most urgent of all owners, if they are not all.
func (o *cursorList) goOn(ctx context.Context, s *Store, from string) error {
	if from == "" && o.next == "" {
		return nil
	}
	if o.next == "" {
		if err := s.together(ctx, o.read(userCursorsSQL, "", maxUsers, minCursors, cursorsInAll, s.excluded)); err != nil {
			return err
		}
	}
	next := o.next
	err := s.together(ctx, o.read(urgentCursorsSQL, urgentCursors, s.excluded))
	o.next = next
	return err
}

func (o *cursorList) sorted() []Cursor {
	slices.SortFunc(o.cursors, Cursor.Compare)
	return slices.CompactFunc(o.cursors, func(a, b Cursor) bool { return a.Batch == b.Batch && a.Route == b.Route })
}

func (o *cursorList) read(sql string, args ...any) read {
	var id *[16]byte
	var route, remaining *int
	var expires, created *time.Time
	var left *int64
	var name *string
	var ownKey *bool
	var priority *int
	var weight float64
	return read{
		sql: sql, args: append([]any{o.routes.models, o.routes.atLeast, o.routes.below}, args...),
		into: []any{&o.next, &route, &id, &remaining, &expires, &left, &created, &name, &ownKey, &priority, &weight},
		each: func() {
			if id == nil {
				return
			}
			o.cursors = append(o.cursors, Cursor{
				Kind: Fresh, Batch: batch.ID(*id), Route: o.via[*route], Remaining: *remaining, ExpiresAt: *expires,
				Left: time.Duration(*left) * time.Microsecond, CreatedAt: *created, CreatedBy: *name, Priority: *priority, Weight: weight, HasOwnKey: *ownKey,
			})
		},
	}
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
	r := routesTo(model, via)
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
func (s *Store) WaitingModels(ctx context.Context) (models []batch.Model, err error) {
	if err := s.together(ctx, readWaitingModels(&models)); err != nil {
		return nil, fmt.Errorf("listing models: %w", err)
	}
	return models, nil
}

func readWaitingModels(models *[]batch.Model) read {
	var model string
	return read{sql: waitingModelsSQL, into: []any{&model}, each: func() { *models = append(*models, batch.Model(model)) }}
}

// Survey returns what ModelSettings and WaitingModels do, in one round trip: the
// settings are not newer than what waits.
func (s *Store) Survey(ctx context.Context) (settings map[batch.Model]ModelSettings, waiting []batch.Model, err error) {
	settings = make(map[batch.Model]ModelSettings)
	if err := s.together(ctx, readSettings(settings), readWaitingModels(&waiting)); err != nil {
		return nil, nil, fmt.Errorf("looking for work: %w", err)
	}
	return settings, waiting, nil
}
