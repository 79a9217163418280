package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Completion is the terminal result of a request, to be stored once.
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
	Detail        string // what went wrong, for operators; nothing of a body or key
	Cause         string // what went wrong, for the owner; no host
}

// Release puts a processing request back to pending: for a retry after the
// delay, or as it was because its daemon releases it.
type Release struct {
	Delivery
	Retry bool // count the attempt
	// Refused counts that the call was refused for what is not the request's fault.
	Refused bool
	Delay   time.Duration // earliest next start, from now
	// Due: it waits here for a new claim, and its message is to be acked. Else its
	// message stays in the stream.
	Due        bool
	Reason     batch.Reason
	StatusCode int
	Cause      string // as that of a Completion
}

var (
	// Taken first and in the order of ids, so that concurrent flushes never
	// deadlock; held to the commit, which makes seq gapless and in commit
	// order. The next statement takes a new snapshot and sees the last one's
	// counters.
	lockBatchesSQL = `
SELECT id FROM batches WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`

	// Only where one flush both finishes and releases requests: its two statements
	// would take their rows in two orders, and a start that takes over some of
	// both would deadlock with it.
	lockRequestsSQL = `
SELECT FROM unnest($1::uuid[], $2::int[]) AS i (batch_id, line)
 CROSS JOIN LATERAL (SELECT FROM requests WHERE batch_id = i.batch_id AND line = i.line FOR UPDATE) r`

	// One statement deletes the requests, numbers and stores their results, moves
	// the counters and, with the last request, the batch's status, or else notes
	// that its budget is spent. Rows of a newer owner, or that have finished, match
	// nothing. Line 0 stands for a batch that has spent its budget with this.
	finishSQL = `
WITH i AS (
    SELECT i.*, r.ctid AS place
      FROM unnest(` + completionColumns.arrays(2) + `) AS i (` + completionColumns.names() + `)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($2)
), gone AS (
    DELETE FROM requests r USING i
     WHERE r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery
       AND r.state = 'processing' AND r.daemon_id = $1
    RETURNING r.started_at, r.routed_model, r.file_id, i.*
), numbered AS (
    SELECT g.*, b.next_seq + (row_number() OVER (PARTITION BY g.batch_id ORDER BY g.line)) - 1 AS seq
      FROM gone g
     CROSS JOIN LATERAL (SELECT next_seq FROM batches WHERE id = g.batch_id LIMIT 1) b
), stored AS (
    INSERT INTO results (seq, started_at, routed_model, ` + completionColumns.stored() + `)
    SELECT seq, started_at, routed_model, ` + completionColumns.values() + `
      FROM numbered
), used AS (` + addUsageSQL + `
), counted AS (
    UPDATE batches b
       SET next_seq = b.next_seq + n.finished, ` + countSQL + `,` + exceedBudgetSQL + `
      FROM (SELECT batch_id, count(*)::int AS finished,
                   (count(*) FILTER (WHERE state = 'completed'))::int AS completed,
                   (count(*) FILTER (WHERE state = 'failed'))::int AS failed,
                   (count(*) FILTER (WHERE state = 'canceled'))::int AS canceled,
                   (count(*) FILTER (WHERE state = 'expired'))::int AS expired
              FROM gone GROUP BY batch_id) n
     WHERE b.id = n.batch_id
    RETURNING b.id, b.budget_exceeded_at = now() AS spent
)
` + finishedSQL

	// Ends finishSQL; owedSQL is in its place where somebody is to be called.
	finishedSQL = `SELECT batch_id, line FROM gone
 UNION ALL
SELECT id, 0 FROM counted WHERE spent`

	releaseSQL = `
WITH i AS (
    SELECT i.*, r.ctid AS place
      FROM unnest($2::uuid[], $3::int[], $4::int[], $5::int[], $6::bool[], $7::bigint[], $8::text[], $9::int[], $10::bool[], $11::bool[], $12::text[])
        AS i (batch_id, line, claim, delivery, retry, delay_us, reason, status, due, refused, cause)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($2)
)
UPDATE requests r
   SET state = 'pending', daemon_id = NULL,
       not_before = CASE WHEN NOT i.due THEN now() + i.delay_us * interval '1 us' END,
       due_at = CASE WHEN i.due THEN now() + i.delay_us * interval '1 us' END,
       attempt = r.attempt + CASE WHEN i.retry THEN 1 ELSE 0 END,
       refused = r.refused + CASE WHEN i.refused THEN 1 ELSE 0 END,
       last_reason = COALESCE(NULLIF(i.reason, ''), r.last_reason),
       last_status = CASE WHEN i.reason = '' THEN r.last_status ELSE NULLIF(i.status, 0) END,
       last_cause = CASE WHEN i.reason = '' THEN r.last_cause ELSE NULLIF(i.cause, '') END
  FROM i
 WHERE r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery
   AND r.state = 'processing' AND r.daemon_id = $1
RETURNING r.batch_id, r.line`
)

// Finish stores completions and releases in one transaction, durable at return.
// The set holds the requests that were written; the others had a newer owner
// or had finished, and nothing of them was changed. It also holds the batches whose
// budget is spent with what was written, each as a RequestID without a line: what is
// left of them is for EndOverBudget. After an error the commit
// may or may not have happened; calling again is safe, because what was
// written then matches no row.
func (s *Store) Finish(ctx context.Context, daemon batch.DaemonID, completions []Completion, releases []Release) (map[batch.RequestID]bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	written := make(map[batch.RequestID]bool, len(completions)+len(releases))
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
	queueFinish(&b, daemon, completions, releases, finishSQL, collect, collect)
	// The statements of one pgx.Batch are one transaction.
	if err := s.db.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("storing results: %w", err)
	}
	return written, nil
}

// queueFinish queues what a flush does, with sql for its completions.
func queueFinish(b *pgx.Batch, daemon batch.DaemonID, completions []Completion, releases []Release, sql string, completed, released func(pgx.Rows) error) {
	if len(completions) > 0 && len(releases) > 0 {
		queueLocks(b, completions, releases)
	}
	if len(completions) > 0 {
		queueCompletions(b, daemon, completions, sql, completed)
	}
	if len(releases) > 0 {
		queueReleases(b, daemon, releases, released)
	}
}

// queueLocks takes all locks that the flush needs, in the order that every
// writer takes them in: batches, then requests, each by id.
func queueLocks(b *pgx.Batch, completions []Completion, releases []Release) {
	all := make([]batch.RequestID, 0, len(completions)+len(releases))
	ended := make([][16]byte, len(completions))
	for i := range completions {
		all = append(all, completions[i].ID)
		ended[i] = completions[i].ID.Batch
	}
	for i := range releases {
		all = append(all, releases[i].ID)
	}
	k := newKeys(len(all))
	for _, id := range inOrder(all, func(id *batch.RequestID) batch.RequestID { return *id }) {
		k.add(*id, 0, 0)
	}
	b.Queue(lockBatchesSQL, distinct(ended))
	b.Queue(lockRequestsSQL, k.batches, k.lines)
}

func queueCompletions(b *pgx.Batch, daemon batch.DaemonID, list []Completion, sql string, collect func(pgx.Rows) error) {
	args := completionColumns.args(inOrder(list, func(c *Completion) batch.RequestID { return c.ID }))
	b.Queue(lockBatchesSQL, distinct(args[0].([][16]byte)))
	b.Queue(sql, append([]any{[16]byte(daemon)}, args...)...).Query(collect)
}

func queueReleases(b *pgx.Batch, daemon batch.DaemonID, releases []Release, collect func(pgx.Rows) error) {
	n := len(releases)
	k := newKeys(n)
	retries, due, delays, reasons, codes := make([]bool, n), make([]bool, n), make([]int64, n), make([]string, n), make([]int32, n)
	refused, causes := make([]bool, n), make([]string, n)
	for i, r := range inOrder(releases, func(r *Release) batch.RequestID { return r.ID }) {
		k.add(r.ID, r.Claim, r.Number)
		retries[i], delays[i], reasons[i], codes[i] = r.Retry, r.Delay.Microseconds(), string(r.Reason), int32(r.StatusCode)
		due[i], refused[i], causes[i] = r.Due, r.Refused, r.Cause
	}
	b.Queue(releaseSQL, [16]byte(daemon), k.batches, k.lines, k.claims, k.deliveries, retries, delays, reasons, codes, due, refused, causes).Query(collect)
}

func distinct(ids [][16]byte) [][16]byte {
	out := slices.Clone(ids)
	slices.SortFunc(out, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out)
}
