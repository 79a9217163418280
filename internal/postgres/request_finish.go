package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Completion is the result of a request, to be written once.
type Completion struct {
	Delivery
	State         batch.State // a terminal one
	Reason        batch.Reason
	Attempts      int
	StatusCode    int // 0: no response
	RequestID     string
	AnsweredModel string
	Usage         batch.Usage
	Body          []byte
	Detail        string // what went wrong; nothing of a body or key
}

// Release sends a processing request back: for a retry after the delay, or as
// it was because its daemon gives it up.
type Release struct {
	Delivery
	Retry bool          // count the attempt
	Delay time.Duration // earliest next start, from now
	// Due: it waits here for a new claim, and its message is to be acked. Else its
	// message stays in the stream.
	Due        bool
	Reason     batch.Reason
	StatusCode int
}

const (
	// Taken first and in the order of ids, so that concurrent flushes never
	// deadlock; held to the commit, which makes seq gapless and in commit
	// order. The next statement takes a new snapshot and sees the last one's
	// counters.
	lockBatchesSQL = `
SELECT id FROM batches WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`

	// Only where one flush both ends and returns requests: its two statements
	// would take their rows in two orders, and a start that takes over some of
	// both would deadlock with it.
	lockRequestsSQL = `
SELECT FROM unnest($1::uuid[], $2::int[]) AS i (batch_id, line)
 CROSS JOIN LATERAL (SELECT FROM requests WHERE batch_id = i.batch_id AND line = i.line FOR UPDATE) r`

	// One statement ends the requests, numbers and stores their results, moves
	// the counters and, with the last request, the batch's status. Lines of a
	// newer owner, or that have ended, match nothing.
	endSQL = `
WITH i AS (
    SELECT i.*, r.ctid AS place
      FROM unnest($2::uuid[], $3::int[], $4::int[], $5::int[], $6::text[], $7::text[], $8::int[], $9::int[], $10::text[],
                  $11::text[], $12::bigint[], $13::bigint[], $14::bytea[], $15::text[], $16::bigint[], $17::bigint[])
        AS i (batch_id, line, claim, delivery, state, reason, attempts, status_code, request_id,
              answered_model, prompt_tokens, completion_tokens, body, detail, cached_tokens, reasoning_tokens)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($2)
), gone AS (
    DELETE FROM requests r USING i
     WHERE r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery
       AND r.state = 'processing' AND r.daemon_id = $1
    RETURNING r.batch_id, r.line, r.claim, r.started_at, r.routed_model, i.state::request_state AS state, i.reason, i.attempts,
              i.status_code, i.request_id, i.answered_model, i.prompt_tokens, i.completion_tokens, i.body, i.detail,
              i.cached_tokens, i.reasoning_tokens
), numbered AS (
    SELECT g.*, b.next_seq + (row_number() OVER (PARTITION BY g.batch_id ORDER BY g.line))::int - 1 AS seq
      FROM gone g
     CROSS JOIN LATERAL (SELECT next_seq FROM batches WHERE id = g.batch_id LIMIT 1) b
), stored AS (
    INSERT INTO results (batch_id, line, seq, state, status_code, attempts, prompt_tokens, completion_tokens, started_at,
                         reason, routed_model, answered_model, upstream_request_id, body, detail, claim)
    SELECT batch_id, line, seq, state, NULLIF(status_code, 0), attempts, prompt_tokens, completion_tokens, started_at,
           NULLIF(reason, ''), routed_model, NULLIF(answered_model, ''), NULLIF(request_id, ''), body, NULLIF(detail, ''), claim
      FROM numbered
), used AS (` + addUsageSQL + `
), counted AS (
    UPDATE batches b
       SET completed = b.completed + n.completed, failed = b.failed + n.failed,
           canceled = b.canceled + n.canceled, expired = b.expired + n.expired, next_seq = b.next_seq + n.ended,
           status = CASE WHEN b.completed + b.failed + b.canceled + b.expired + n.ended < b.total THEN b.status
                         WHEN b.expired + n.expired > 0 THEN 'expired' WHEN b.completed + n.completed > 0 THEN 'completed'
                         WHEN b.failed + n.failed > 0 THEN 'failed' ELSE 'cancelled' END,
           finished_at = CASE WHEN b.completed + b.failed + b.canceled + b.expired + n.ended < b.total THEN NULL
                              ELSE clock_timestamp() END
      FROM (SELECT batch_id, count(*)::int AS ended,
                   (count(*) FILTER (WHERE state = 'completed'))::int AS completed,
                   (count(*) FILTER (WHERE state = 'failed'))::int AS failed,
                   (count(*) FILTER (WHERE state = 'canceled'))::int AS canceled,
                   (count(*) FILTER (WHERE state = 'expired'))::int AS expired
              FROM gone GROUP BY batch_id) n
     WHERE b.id = n.batch_id
)
SELECT batch_id, line FROM gone`

	returnSQL = `
WITH i AS (
    SELECT i.*, r.ctid AS place
      FROM unnest($2::uuid[], $3::int[], $4::int[], $5::int[], $6::bool[], $7::bigint[], $8::text[], $9::int[], $10::bool[])
        AS i (batch_id, line, claim, delivery, retry, delay_us, reason, status, due)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($2)
)
UPDATE requests r
   SET state = 'pending', daemon_id = NULL,
       not_before = CASE WHEN NOT i.due THEN now() + i.delay_us * interval '1 us' END,
       due_at = CASE WHEN i.due THEN now() + i.delay_us * interval '1 us' END,
       attempt = r.attempt + CASE WHEN i.retry THEN 1 ELSE 0 END,
       last_reason = COALESCE(NULLIF(i.reason, ''), r.last_reason), last_status = COALESCE(NULLIF(i.status, 0), r.last_status)
  FROM i
 WHERE r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery
   AND r.state = 'processing' AND r.daemon_id = $1
RETURNING r.batch_id, r.line`
)

// Finish writes endings and returns in one transaction, durable at return.
// The set holds the requests that were written; the others had a newer owner
// or had ended, and nothing of them was changed. After an error the commit
// may or may not have happened; calling again is safe, because what was
// written then matches no row.
func (s *Store) Finish(ctx context.Context, daemon batch.DaemonID, endings []Completion, returns []Release) (map[batch.RequestID]bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	written := make(map[batch.RequestID]bool, len(endings)+len(returns))
	collect := func(rows pgx.Rows) error {
		for rows.Next() {
			var id batch.RequestID
			if err := rows.Scan((*[16]byte)(&id.Batch), &id.Line); err != nil {
				return err
			}
			written[id] = true
		}
		return rows.Err()
	}
	var b pgx.Batch
	if len(endings) > 0 && len(returns) > 0 {
		queueLocks(&b, endings, returns)
	}
	if len(endings) > 0 {
		queueEndings(&b, daemon, endings, collect)
	}
	if len(returns) > 0 {
		queueReturns(&b, daemon, returns, collect)
	}
	// The statements of one pgx.Batch are one transaction.
	if err := s.pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("writing results: %w", err)
	}
	return written, nil
}

// queueLocks takes all locks that the flush needs, in the order that every
// writer takes them in: batches, then requests, each by id.
func queueLocks(b *pgx.Batch, endings []Completion, returns []Release) {
	all := make([]batch.RequestID, 0, len(endings)+len(returns))
	ended := make([][16]byte, len(endings))
	for i := range endings {
		all = append(all, endings[i].ID)
		ended[i] = endings[i].ID.Batch
	}
	for i := range returns {
		all = append(all, returns[i].ID)
	}
	k := newKeys(len(all))
	for _, id := range inOrder(all, func(id *batch.RequestID) batch.RequestID { return *id }) {
		k.add(*id, 0, 0)
	}
	b.Queue(lockBatchesSQL, distinct(ended))
	b.Queue(lockRequestsSQL, k.batches, k.lines)
}

func queueEndings(b *pgx.Batch, daemon batch.DaemonID, endings []Completion, collect func(pgx.Rows) error) {
	n := len(endings)
	k := newKeys(n)
	states, reasons, ids, models, details := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	attempts, codes := make([]int32, n), make([]int32, n)
	prompt, completion, cached, reasoning := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	bodies := make([][]byte, n)
	for i, e := range inOrder(endings, func(e *Completion) batch.RequestID { return e.ID }) {
		k.add(e.ID, e.Claim, e.Number)
		states[i], reasons[i], ids[i], models[i] = string(e.State), string(e.Reason), e.RequestID, e.AnsweredModel
		attempts[i], codes[i] = int32(e.Attempts), int32(e.StatusCode)
		details[i] = e.Detail
		prompt[i], completion[i], bodies[i] = e.Usage.PromptTokens, e.Usage.CompletionTokens, e.Body
		cached[i], reasoning[i] = e.Usage.CachedTokens, e.Usage.ReasoningTokens
	}
	b.Queue(lockBatchesSQL, distinct(k.batches))
	b.Queue(endSQL, [16]byte(daemon), k.batches, k.lines, k.claims, k.deliveries, states, reasons, attempts, codes, ids,
		models, prompt, completion, bodies, details, cached, reasoning).Query(collect)
}

func queueReturns(b *pgx.Batch, daemon batch.DaemonID, returns []Release, collect func(pgx.Rows) error) {
	n := len(returns)
	k := newKeys(n)
	retries, due, delays, reasons, codes := make([]bool, n), make([]bool, n), make([]int64, n), make([]string, n), make([]int32, n)
	for i, r := range inOrder(returns, func(r *Release) batch.RequestID { return r.ID }) {
		k.add(r.ID, r.Claim, r.Number)
		retries[i], delays[i], reasons[i], codes[i] = r.Retry, r.Delay.Microseconds(), string(r.Reason), int32(r.StatusCode)
		due[i] = r.Due
	}
	b.Queue(returnSQL, [16]byte(daemon), k.batches, k.lines, k.claims, k.deliveries, retries, delays, reasons, codes, due).Query(collect)
}

func distinct(ids [][16]byte) [][16]byte {
	out := slices.Clone(ids)
	slices.SortFunc(out, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out)
}
