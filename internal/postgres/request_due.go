package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fusillade/internal/batch"
)

// Escalations are those in force, by the model that requests name.
type Escalations map[batch.Model]batch.Escalation

func (e Escalations) arrays() (from, to []string, thresholds []int64) {
	from, to, thresholds = make([]string, 0, len(e)), make([]string, 0, len(e)), make([]int64, 0, len(e))
	for model, escalation := range e {
		from, to = append(from, string(model)), append(to, string(escalation.Model))
		thresholds = append(thresholds, escalation.Threshold.Microseconds())
	}
	return from, to, thresholds
}

const (
	// maxDueBatches are looked at in one call of DueBatches. Of each, and of both
	// kinds, as many requests are counted as make dueInAll of them, but at least
	// minDue and one more.
	maxDueBatches = 512
	dueInAll      = 4096
	minDue        = 16
)

// Jumps from batch to batch in an index, and counts in it up to a bound: the cost
// follows the numbers that are asked for, however many requests are due or will
// be. There is a row without a batch if nothing is found.
const dueBatchesSQL = `
WITH RECURSIVE waiting AS (
    SELECT 1 AS place, (SELECT batch_id FROM requests WHERE routed_model = $1 AND due_at IS NOT NULL AND batch_id > $2
                         ORDER BY routed_model, batch_id LIMIT 1) AS batch_id
     UNION ALL
    SELECT w.place + 1, (SELECT batch_id FROM requests WHERE routed_model = $1 AND due_at IS NOT NULL AND batch_id > w.batch_id
                          ORDER BY routed_model, batch_id LIMIT 1)
      FROM waiting w WHERE w.batch_id IS NOT NULL AND w.place < $3
), found AS MATERIALIZED (
    SELECT greatest($4, $5 / greatest(count(batch_id), 1)) AS most,
           (SELECT batch_id FROM waiting WHERE place = $3) AS next
      FROM waiting
)
SELECT f.next, d.batch_id, d.rerun, LEAST(d.n, f.most), d.n > f.most, d.expires_at, d.left_us, d.created_at, d.created_by, d.brings_key, d.priority, d.weight
  FROM found f
  LEFT JOIN LATERAL (
       SELECT w.batch_id, k.rerun, c.n, b.expires_at, (extract(epoch FROM b.expires_at - now()) * 1e6)::bigint AS left_us,
              b.created_at, b.created_by, b.brings_key, b.priority, COALESCE(u.weight, 1) AS weight
         FROM waiting w
         JOIN batches b ON b.id = w.batch_id AND b.cancelling_at IS NULL AND b.id <> ALL ($6::uuid[])
        CROSS JOIN (VALUES (false), (true)) AS k (rerun)
        CROSS JOIN LATERAL (
              SELECT count(*) AS n
                FROM (SELECT FROM requests
                       WHERE routed_model = $1 AND batch_id = w.batch_id AND (generation > 0 AND attempt = 0) = k.rerun
                         AND due_at IS NOT NULL AND due_at <= now()
                       LIMIT f.most + 1) few) c
         LEFT JOIN users u ON u.name = b.created_by
        WHERE c.n > 0) d ON true`

// DueBatches lists batches of which requests are due for the model, as they
// were routed last, but for those that are being cancelled: in each, those of a
// rerun that were not called since, and all others, which are automatic retries
// and what was released. If there are too many batches, next is where to go on
// with the next call, so that each is listed in its turn. Begin with the zero ID.
func (s *Store) DueBatches(ctx context.Context, model batch.Model, from batch.ID) (due []Cursor, next batch.ID, err error) {
	d := dueList{model: model}
	err = s.together(ctx, d.read(from, s.excluded))
	if err == nil {
		err = d.goOn(ctx, s, from)
	}
	if err != nil {
		return nil, batch.ID{}, fmt.Errorf("listing what is due: %w", err)
	}
	return d.compact(), d.next, nil
}

// dueList are listed by one call.
type dueList struct {
	model batch.Model
	due   []Cursor
	next  batch.ID
}

// goOn lists from the beginning after the last ones.
func (d *dueList) goOn(ctx context.Context, s *Store, from batch.ID) error {
	if from == (batch.ID{}) || d.next != (batch.ID{}) {
		return nil
	}
	return s.together(ctx, d.read(batch.ID{}, s.excluded))
}

func (d *dueList) compact() []Cursor {
	return slices.CompactFunc(d.due, func(a, b Cursor) bool { return a.Batch == b.Batch && a.Kind == b.Kind })
}

func (d *dueList) read(from batch.ID, excluded [][16]byte) read {
	var last, id *[16]byte
	var rerun, more, ownKey *bool
	var n, left *int64
	var expires, created *time.Time
	var name *string
	var priority *int
	var weight *float64
	d.next = batch.ID{}
	return read{
		sql:  dueBatchesSQL,
		args: []any{string(d.model), [16]byte(from), maxDueBatches, int64(minDue), int64(dueInAll), excluded},
		into: []any{&last, &id, &rerun, &n, &more, &expires, &left, &created, &name, &ownKey, &priority, &weight},
		each: func() {
			if last != nil {
				d.next = batch.ID(*last)
			}
			if id == nil {
				return
			}
			c := Cursor{
				Kind: DueRetry, Batch: batch.ID(*id), Remaining: int(*n), More: *more, ExpiresAt: *expires,
				Left: time.Duration(*left) * time.Microsecond, CreatedAt: *created, CreatedBy: *name, Priority: *priority, Weight: *weight, HasOwnKey: *ownKey,
			}
			if *rerun {
				c.Kind = DueRerun
			}
			d.due = append(d.due, c)
		},
	}
}

// A request that is due keeps the model that it was last routed to until it
// is rerouted; where it belongs now is judged again at the claim. What another
// claim holds is passed over, and so is what a cancel in slices has not come to.
const claimDueSQL = `
WITH due AS MATERIALIZED (
    SELECT r.place
      FROM unnest($2::uuid[], $3::bool[], $4::int[]) WITH ORDINALITY AS q (batch_id, rerun, n, place)
     CROSS JOIN LATERAL (SELECT expires_at FROM batches WHERE id = q.batch_id AND cancelling_at IS NULL LIMIT 1) b
     CROSS JOIN LATERAL (
           SELECT ctid AS place FROM requests
            WHERE routed_model = $1 AND batch_id = q.batch_id AND (generation > 0 AND attempt = 0) = q.rerun
              AND due_at IS NOT NULL AND due_at <= now()
              AND COALESCE((SELECT e.to_model FROM unnest($5::text[], $6::text[], $7::bigint[]) AS e (model, to_model, below)
                             WHERE e.model = requests.model AND b.expires_at < now() + e.below * interval '1 us' LIMIT 1), model) = $1
            ORDER BY routed_model, batch_id, (generation > 0 AND attempt = 0), due_at LIMIT q.n
              FOR UPDATE SKIP LOCKED) r
     ORDER BY q.place
)
UPDATE requests r
   SET state = 'claimed', claim = r.claim + 1, delivery = 0, claimed_at = now(), due_at = NULL, not_before = NULL
  FROM due
 WHERE r.ctid = due.place
RETURNING r.batch_id, r.line, r.claim, r.attempt, COALESCE(NULLIF(r.model, r.routed_model), '')`

// ClaimDue takes up to the given number of requests of each batch and kind that
// are due, were routed to the model, and belong to it by the escalations. Of
// each batch and kind those that are due the longest come first.
func (s *Store) ClaimDue(ctx context.Context, model batch.Model, quotas []Quota, e Escalations) ([]ClaimedRequest, error) {
	batches, reruns, ns := make([][16]byte, len(quotas)), make([]bool, len(quotas)), make([]int32, len(quotas))
	for i, q := range quotas {
		batches[i], reruns[i], ns[i] = [16]byte(q.Batch), q.Kind == DueRerun, int32(q.N)
	}
	from, to, thresholds := e.arrays()
	return s.claim(ctx, claimDueSQL, string(model), batches, reruns, ns, from, to, thresholds)
}

// Jumps from batch to batch and model to model, so that the cost follows the
// requests that are moved and not those that stay.
const rerouteSQL = `
WITH RECURSIVE waiting AS (
    (SELECT batch_id, model FROM requests WHERE routed_model = $1 AND due_at IS NOT NULL
      ORDER BY routed_model, batch_id, model LIMIT 1)
     UNION ALL
    SELECT n.batch_id, n.model
      FROM waiting w
     CROSS JOIN LATERAL (
           SELECT batch_id, model FROM requests
            WHERE routed_model = $1 AND due_at IS NOT NULL AND (batch_id, model) > (w.batch_id, w.model)
            ORDER BY routed_model, batch_id, model LIMIT 1) n
), misplaced AS MATERIALIZED (
    SELECT w.batch_id, w.model, COALESCE(e.to_model, w.model) AS to_model
      FROM waiting w
     CROSS JOIN LATERAL (SELECT expires_at FROM batches WHERE id = w.batch_id LIMIT 1) b
      LEFT JOIN unnest($3::text[], $4::text[], $5::bigint[]) AS e (model, to_model, below)
        ON e.model = w.model AND b.expires_at < now() + e.below * interval '1 us'
     WHERE COALESCE(e.to_model, w.model) <> $1
), moving AS MATERIALIZED (
    SELECT r.ctid AS place, m.to_model
      FROM misplaced m
      JOIN requests r ON r.routed_model = $1 AND r.due_at IS NOT NULL AND r.batch_id = m.batch_id AND r.model = m.model
     LIMIT $2
       FOR UPDATE OF r SKIP LOCKED
)
UPDATE requests r SET routed_model = m.to_model FROM moving m WHERE r.ctid = m.place
RETURNING r.routed_model`

// Reroute gives up to n requests that wait for a claim for the model, and by
// the escalations do not belong to it, to the models they do belong to. It
// returns how many went to each.
func (s *Store) Reroute(ctx context.Context, model batch.Model, n int, e Escalations) (map[batch.Model]int, error) {
	from, to, thresholds := e.arrays()
	moved := make(map[batch.Model]int)
	var routed string
	err := s.forEach(ctx, rerouteSQL, []any{string(model), n, from, to, thresholds}, []any{&routed}, func() { moved[batch.Model(routed)]++ })
	if err != nil {
		return nil, fmt.Errorf("rerouting requests: %w", err)
	}
	return moved, nil
}
