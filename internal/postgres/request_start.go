package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Delivery is a message as a consumer received it.
type Delivery struct {
	ID     batch.RequestID
	Claim  int
	Number int // JetStream's delivery count of the message, from 1
}

// Verdict says what a consumer must do with a delivery.
type Verdict int

// The verdicts of a start.
const (
	// Started: the request is the caller's; make the call.
	Started Verdict = iota
	// Stale: the request has ended, was claimed anew or is to be; ack, make no call.
	Stale
	// Busy: it is being called, by a daemon that lives or by what may still be a
	// later delivery; nak with a short delay.
	Busy
	// Early: its backoff is not over, or the broker counts its deliveries anew and
	// has not come as far as before; nak with Start.Wait.
	Early
	// Deferred: it is the caller's, and its body was left out because those
	// before it are enough at once. Start it again, or return it.
	Deferred
)

// Start is the answer to one Delivery.
type Start struct {
	Verdict  Verdict
	Template batch.Template // when Started; its Model is what the file says
	Attempt  int
	// Generation counts the manual retries of the batch up to the one that
	// brought this request back; 0: of its first life.
	Generation int
	Refused    int           // calls that were refused for what is not its fault, and cost no attempt
	Takeovers  int           // daemons that died or hung in the middle of this request
	Remaining  time.Duration // until the batch expires, by Postgres's clock
	Deadline   time.Time     // when it does; the same for every consumer
	HasOwnKey  bool          // the call must bear the batch's own API key
	Owner      string        // of the batch
	// Wait is, when Early, the rest of the backoff; when Busy, how long until the
	// daemon is dead or the call past its timeout, if nothing else happens.
	Wait time.Duration
}

// StartRules are the settings that decide about a takeover.
type StartRules struct {
	Daemon            batch.DaemonID
	ProcessingTimeout time.Duration // a call older than this may be taken over
	StaleThreshold    time.Duration // a daemon without a heartbeat for this long is dead
	// MaxBytes is how much one call returns in bodies, and one body more; 0:
	// 32 MiB. The rest is Deferred.
	MaxBytes int
}

const defaultStartBytes = 32 << 20

const (
	// A lost start costs a repeated call and never a result, because the
	// result's fence then finds no row that is processing. So it need not wait
	// for the disk.
	relaxSQL = `SELECT set_config('synchronous_commit', 'off', true)`

	// Takeover only from the dead: a row that is processing is taken only if
	// its owner is the caller itself, is dead or stale, or is past the
	// processing timeout. The same delivery may be started twice by the same
	// daemon, so that a start whose answer was lost can be repeated. 100 ms of
	// a backoff may be missing, as the broker rounds after a restart. A request
	// that is due waits for a new claim, whatever message of the last one
	// turns up: a publish can fail and be stored all the same.
	startSQL = `
WITH i AS (
    SELECT i.claim, i.delivery, r.ctid AS place
      FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) AS i (batch_id, line, claim, delivery)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($1)
), s AS (
    UPDATE requests r
       SET state = 'processing', daemon_id = $5, delivery = i.delivery, started_at = now(), not_before = NULL,
           takeovers = r.takeovers + CASE WHEN r.state = 'processing' AND r.daemon_id <> $5 THEN 1 ELSE 0 END
      FROM i
     WHERE r.ctid = i.place AND r.claim = i.claim
       AND (r.delivery < i.delivery OR r.delivery = i.delivery AND r.daemon_id = $5)
       AND r.due_at IS NULL
       AND (r.not_before IS NULL OR r.not_before <= now() + interval '100 ms')
       AND (r.state <> 'processing' OR r.daemon_id = $5 OR r.started_at < now() - $6::interval OR NOT EXISTS (
            SELECT FROM daemons d
             WHERE d.id = r.daemon_id AND d.status <> 'dead' AND d.last_heartbeat > now() - $7::interval))
    RETURNING r.batch_id, r.line, r.file_id, r.model, r.attempt, r.generation, r.takeovers, r.refused
)
SELECT s.batch_id, s.line, s.model, s.attempt, s.generation, s.takeovers, s.refused, t.custom_id, t.method, t.path,
       CASE WHEN sum(octet_length(t.body)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(t.body) < $8 THEN t.body END,
       (extract(epoch FROM b.expires_at - now()) * 1e6)::bigint, b.brings_key, b.created_by, b.expires_at
  FROM s
 CROSS JOIN LATERAL (SELECT custom_id, method, path, body FROM templates WHERE file_id = s.file_id AND line = s.line LIMIT 1) t
 CROSS JOIN LATERAL (SELECT expires_at, brings_key, created_by FROM batches WHERE id = s.batch_id LIMIT 1) b`

	// Only for deliveries that startSQL refused. A message of the claim that the
	// row waits or is called for is kept, even one of an earlier delivery: a broker
	// that has lost the state of its consumer counts from 1 again, and each nak
	// counts one more. An ack would take the message from under the row.
	refusedSQL = `
SELECT r.batch_id, r.line, r.state = 'processing',
       COALESCE((extract(epoch FROM CASE WHEN r.state = 'processing' THEN LEAST(r.started_at + $5::interval,
                 COALESCE((SELECT d.last_heartbeat + $6::interval FROM daemons d WHERE d.id = r.daemon_id AND d.status <> 'dead'), now()))
                                         ELSE r.not_before END - now()) * 1e6)::bigint, 0)
  FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) AS i (batch_id, line, claim, delivery)
 CROSS JOIN LATERAL (SELECT * FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
 WHERE r.claim = i.claim AND r.due_at IS NULL`
)

// Start marks the delivered requests as processing and returns, in the same
// order, what is to be done with each. After an error none, some or all of
// them may have started; calling again is safe. A request must not be given
// twice in one call.
func (s *Store) Start(ctx context.Context, rules StartRules, deliveries []Delivery) ([]Start, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	k, index := newKeys(len(deliveries)), make(map[batch.RequestID]int, len(deliveries))
	for i, d := range deliveries {
		index[d.ID] = i
	}
	for _, d := range inOrder(deliveries, func(d *Delivery) batch.RequestID { return d.ID }) {
		k.add(d.ID, d.Claim, d.Number)
	}
	out := make([]Start, len(deliveries))
	for i := range out {
		out[i].Verdict = Stale
	}
	started := 0
	var b pgx.Batch
	b.Queue(relaxSQL)
	b.Queue(startSQL, k.batches, k.lines, k.claims, k.deliveries, [16]byte(rules.Daemon),
		rules.ProcessingTimeout, rules.StaleThreshold, cmp.Or(rules.MaxBytes, defaultStartBytes)).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var id batch.RequestID
			var st Start
			var micros int64
			t := &st.Template
			if err := rows.Scan((*[16]byte)(&id.Batch), &id.Line, (*string)(&t.Model), &st.Attempt, &st.Generation, &st.Takeovers, &st.Refused,
				&t.CustomID, &t.Method, &t.Path, &t.Body, &micros, &st.HasOwnKey, &st.Owner, &st.Deadline); err != nil {
				return err
			}
			if t.Body == nil {
				st.Verdict = Deferred
			}
			t.Line, st.Remaining = id.Line, time.Duration(micros)*time.Microsecond
			out[index[id]] = st
			started++
		}
		return rows.Err()
	})
	if err := s.db.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("starting requests: %w", err)
	}
	if started == len(deliveries) {
		return out, nil
	}
	if err := s.explainRefused(ctx, rules, k, index, out); err != nil {
		return nil, fmt.Errorf("starting requests: %w", err)
	}
	return out, nil
}

func (s *Store) explainRefused(ctx context.Context, rules StartRules, k *keys, index map[batch.RequestID]int, out []Start) error {
	rows, err := s.db.Query(ctx, refusedSQL, k.batches, k.lines, k.claims, k.deliveries,
		rules.ProcessingTimeout, rules.StaleThreshold)
	if err != nil {
		return err
	}
	var id batch.RequestID
	var busy bool
	var micros int64
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id.Batch), &id.Line, &busy, &micros}, func() error {
		st := &out[index[id]]
		switch {
		case st.Verdict == Started || st.Verdict == Deferred:
			return nil
		case busy:
			st.Verdict = Busy
		default:
			st.Verdict = Early
		}
		st.Wait = max(time.Duration(micros)*time.Microsecond, 0)
		return nil
	})
	return err
}
