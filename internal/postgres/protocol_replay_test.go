package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/protocol"
)

var (
	replays    = flag.Int("protocol.replays", 25, "how many random traces of internal/protocol are replayed")
	replaySeed = flag.Uint64("protocol.seed", 0, "of the random traces; 0: another at each run")
)

// replay is a trace of the model of internal/protocol, and the store that makes the
// same steps.
type replay struct {
	t       *testing.T
	s       *Store
	config  protocol.Config
	model   batch.Model // of this replay alone
	batches []batch.ID
	daemons map[int]batch.DaemonID // by the model's numbers; those that are registered
}

func newReplay(t *testing.T, s *Store, c protocol.Config, name string) *replay {
	w := &replay{t: t, s: s, config: c, model: batch.Model("protocol-" + name), daemons: make(map[int]batch.DaemonID)}
	if c.TwoBatches {
		for range c.Requests {
			w.batches = append(w.batches, newBatch(t, s, 1, w.model))
		}
	} else {
		w.batches = append(w.batches, newBatch(t, s, c.Requests, w.model))
	}
	for d := range 2 {
		w.daemons[d] = newDaemon(t, s)
	}
	return w
}

func (w *replay) id(request int) batch.RequestID {
	if w.config.TwoBatches {
		return batch.RequestID{Batch: w.batches[request], Line: 1}
	}
	return batch.RequestID{Batch: w.batches[0], Line: int32(request + 1)}
}

func (w *replay) delivery(c protocol.Statement) Delivery {
	return Delivery{ID: w.id(c.Request), Claim: int(c.Task.Claim), Number: int(c.Task.Delivery)}
}

func (w *replay) sql(c protocol.Statement, sql string, args ...any) {
	id := w.id(c.Request)
	sqlExec(w.t, w.s, sql+` WHERE batch_id = $1 AND line = $2`, append([]any{[16]byte(id.Batch), id.Line}, args...)...)
}

// later is long after the end of the test.
const later = time.Hour

func (w *replay) sliced(f func(context.Context, pgx.Tx) error) error {
	w.s.slice = max(w.config.Slice, 1)
	if w.config.Slice == 0 {
		w.s.slice = 100
	}
	defer func() { w.s.slice = 100 }()
	return w.s.inTx(w.t.Context(), f)
}

// do makes a call of the model and says what is different from the model's.
func (w *replay) do(c protocol.Statement) (problem string) {
	ctx, s := w.t.Context(), w.s
	var err error
	done := c.Done
	switch c.Call {
	case protocol.CallClaim:
		var got []ClaimedRequest
		got, err = s.Claim(ctx, w.model, []Quota{{Batch: w.batches[c.Batch], N: 1}})
		if done = len(got) == 1; done && got[0].ID != w.id(c.Request) {
			return fmt.Sprintf("claimed %v", got[0].ID)
		}
	case protocol.CallClaimDue:
		// Of several that are due the first that became so is claimed.
		w.sql(c, `UPDATE requests SET due_at = due_at - interval '1 day'`)
		id, kind := w.id(c.Request), DueRetry
		if sqlInt(w.t, s, `SELECT count(*) FROM requests WHERE batch_id = $1 AND line = $2 AND generation > 0 AND attempt = 0`, [16]byte(id.Batch), id.Line) == 1 {
			kind = DueRerun
		}
		var got []ClaimedRequest
		got, err = s.ClaimDue(ctx, w.model, []Quota{{Kind: kind, Batch: id.Batch, N: 1}}, nil)
		if done = len(got) == 1; done && got[0].ID != w.id(c.Request) {
			return fmt.Sprintf("claimed %v", got[0].ID)
		}
	case protocol.CallStart:
		var got []Start
		got, err = s.Start(ctx, rules(w.daemons[c.Daemon]), []Delivery{w.delivery(c)})
		want := map[protocol.Verdict]Verdict{protocol.VerdictStarted: Started, protocol.VerdictStale: Stale, protocol.VerdictBusy: Busy, protocol.VerdictEarly: Early}[c.Verdict]
		if err == nil && got[0].Verdict != want {
			return fmt.Sprintf("verdict %d, want %d", got[0].Verdict, want)
		}
	case protocol.CallFinish:
		done, err = w.finish(c)
	case protocol.CallRenewStarts:
		var got map[batch.RequestID]bool
		got, err = s.RenewStarts(ctx, w.daemons[c.Daemon], []Delivery{w.delivery(c)})
		done = got[w.id(c.Request)]
	case protocol.CallCheckLiveness:
		var got []Liveness
		if got, err = s.CheckLiveness(ctx, []Delivery{w.delivery(c)}); err == nil {
			done = got[0] == Live
		}
	case protocol.CallReleaseClaims:
		var n int
		delay := time.Duration(0)
		if c.Due == 2 {
			delay = later
		}
		d := w.delivery(c)
		n, err = s.ReleaseClaims(ctx, []ClaimedRequest{{ID: d.ID, Claim: d.Claim, Delivery: d.Number}}, delay)
		done = n == 1
	case protocol.CallReclaim:
		var got []Overdue
		got, err = s.Reclaim(ctx, []batch.DaemonID{w.daemons[c.Daemon]}, 1)
		if done = len(got) == 1; done && got[0].ID != w.id(c.Request) {
			return fmt.Sprintf("reclaimed %v", got[0].ID)
		}
	case protocol.CallOverdue:
		var got []Overdue
		d := w.delivery(c)
		got, err = s.Overdue(ctx, OverdueAfter{Processing: time.Hour, Heartbeat: time.Minute}, batch.RequestID{}, 1_000_000)
		done = slices.ContainsFunc(got, func(o Overdue) bool { return o.ID == d.ID && o.Claim == d.Claim && o.Delivery == d.Number })
	case protocol.CallFindExpired:
		var got []batch.ID
		got, err = s.batchIDs(ctx, overdueBatchesSQL, time.Duration(0), 0, 1_000_000)
		done = slices.Contains(got, w.batches[c.Batch])
	case protocol.CallHeartbeat:
		err = s.Heartbeat(ctx, w.daemons[c.Daemon], Progress{})
		if done = err == nil; errors.Is(err, batch.ErrDaemonDead) {
			err = nil
		}
	default:
		err = w.change(c)
	}
	if err != nil {
		return err.Error()
	}
	if done != c.Done {
		return fmt.Sprintf("done: %t, want %t", done, c.Done)
	}
	return ""
}

func (w *replay) finish(c protocol.Statement) (bool, error) {
	d := w.delivery(c)
	var set []Completion
	var releases []Release
	switch c.Task.Stage {
	case protocol.Complete:
		set = append(set, completed(d))
	case protocol.Fail:
		set = append(set, failed(d))
	case protocol.Retry:
		releases = append(releases, Release{Delivery: d, Retry: true, Delay: later})
	case protocol.RetryDue:
		releases = append(releases, Release{Delivery: d, Retry: true, Delay: later, Due: true})
	case protocol.Return:
		releases = append(releases, Release{Delivery: d})
	default:
		return false, fmt.Errorf("no decision: %s", c.Task.Stage)
	}
	written, err := w.s.Finish(w.t.Context(), w.daemons[c.Daemon], set, releases)
	return written[d.ID], err
}

// change makes a call whose result shows in the tables alone.
func (w *replay) change(c protocol.Statement) error {
	ctx, s, id := w.t.Context(), w.s, w.batches[c.Batch]
	var err error
	switch c.Call {
	case protocol.CallDeclareDead:
		_, _, err = s.DeclareDead(ctx, time.Minute)
	case protocol.CallRegister:
		w.daemons[c.Daemon] = newDaemon(w.t, s)
	case protocol.CallEndDaemon:
		err = s.EndDaemon(ctx, w.daemons[c.Daemon])
	case protocol.CallCancelSlice:
		err = w.sliced(func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := s.cancelSlice(ctx, tx, id)
			return err
		})
	case protocol.CallExpireSlice:
		err = w.sliced(func(ctx context.Context, tx pgx.Tx) error {
			_, err := s.endSlice(ctx, tx, id, expiryPass(0))
			return err
		})
	case protocol.CallCancelRequests:
		_, err = s.CancelRequests(ctx, id, []int32{w.id(c.Request).Line})
	case protocol.CallRerunRequests:
		_, err = s.RerunRequests(ctx, id, batch.Allowance{}, batch.Failed, batch.Canceled, batch.Expired)
	case protocol.CallRerunLines:
		_, err = s.RerunLines(ctx, id, batch.Allowance{}, []int32{w.id(c.Request).Line})
	case protocol.TimeSilence:
		silence(w.t, s, w.daemons[c.Daemon])
	case protocol.TimeOvertime:
		w.sql(c, `UPDATE requests SET started_at = now() - interval '2 h'`)
	case protocol.TimeBackoff:
		w.sql(c, `UPDATE requests SET not_before = not_before - interval '2 h', due_at = due_at - interval '2 h'`)
	case protocol.TimeDeadline:
		sqlExec(w.t, s, `UPDATE batches SET expires_at = now() - interval '1 s', renewed_at = now() - interval '1 day' WHERE id = $1`, [16]byte(id))
	default:
		return fmt.Errorf("the replay does not know call %d", c.Call)
	}
	return err
}

// seen is what Postgres shows of a state.
type seen struct {
	Rows    []protocol.Row
	Results []protocol.Result
	Batches []protocol.Batch
	Records []string
}

// modelled is what it should show.
func (w *replay) modelled(s protocol.State) seen {
	var out seen
	for r := range w.config.Requests {
		row := s.Rows[r]
		row.Stray = 0
		out.Rows = append(out.Rows, row)
		out.Results = append(out.Results, s.Results[r])
	}
	for b := range w.batches {
		out.Batches = append(out.Batches, s.Batches[b])
	}
	for d := range s.Daemons {
		if w.daemons[d] != (batch.DaemonID{}) {
			out.Records = append(out.Records, s.Daemons[d].Record.String())
		}
	}
	return out
}

var phases = map[string]protocol.Phase{
	"": protocol.Absent, "pending": protocol.Pending, "claimed": protocol.Claimed, "processing": protocol.Processing, "in_progress": protocol.Absent,
	"completed": protocol.Completed, "failed": protocol.Failed, "canceled": protocol.Canceled, "cancelled": protocol.Canceled, "expired": protocol.Expired,
}

func (w *replay) read() seen {
	var out seen
	for r := range w.config.Requests {
		id := w.id(r)
		var row protocol.Row
		var res protocol.Result
		var state, ended string
		var daemon *[16]byte
		err := w.s.pool.QueryRow(w.t.Context(), `
SELECT COALESCE(r.state::text, ''), COALESCE(r.claim, 0), COALESCE(r.delivery, 0), r.daemon_id, COALESCE(r.attempt, 0), COALESCE(r.takeovers, 0),
       CASE WHEN r.due_at > now() THEN 2 WHEN r.due_at IS NOT NULL THEN 1 ELSE 0 END, (COALESCE(r.not_before > now(), false))::int,
       (COALESCE(r.state = 'processing' AND r.started_at < now() - interval '1 h', false))::int, COALESCE(s.state::text, ''), COALESCE(s.claim, 0)
  FROM (SELECT) one
  LEFT JOIN requests r ON r.batch_id = $1 AND r.line = $2
  LEFT JOIN results s ON s.batch_id = $1 AND s.line = $2`, [16]byte(id.Batch), id.Line).Scan(
			&state, &row.Claim, &row.Delivery, &daemon, &row.Attempt, &row.Takeovers, &row.Due, &row.Backoff, &row.Overtime, &ended, &res.Claim)
		if err != nil {
			w.t.Fatal(err)
		}
		row.State, res.State = phases[state], phases[ended]
		for d, id := range w.daemons {
			if daemon != nil && *daemon == [16]byte(id) {
				row.Daemon = uint8(d + 1)
			}
		}
		out.Rows, out.Results = append(out.Rows, row), append(out.Results, res)
	}
	for _, id := range w.batches {
		var b protocol.Batch
		var status, skippedAs string
		err := w.s.pool.QueryRow(w.t.Context(), `
SELECT b.status, (b.cancelling_at IS NOT NULL)::int, (b.expires_at <= now())::int, LEAST(b.retries, 1), b.completed, b.failed, b.canceled, b.expired,
       c.open::int, c.claimed, c.skipped, COALESCE(b.skipped_as::text, ''), c.last_line, c.holes
  FROM batches b JOIN cursors c ON c.batch_id = b.id WHERE b.id = $1`, [16]byte(id)).Scan(
			&status, &b.Cancelling, &b.Overdue, &b.Reruns, &b.Completed, &b.Failed, &b.Canceled, &b.Expired,
			&b.Open, &b.Claimed, &b.Skipped, &skippedAs, &b.Last, &b.OutOfOrder)
		if err != nil {
			w.t.Fatal(err)
		}
		b.Ended, b.SkippedAs = phases[status], phases[skippedAs]
		out.Batches = append(out.Batches, b)
	}
	for d := range len(protocol.State{}.Daemons) {
		if w.daemons[d] == (batch.DaemonID{}) {
			continue
		}
		var dead, silent bool
		if err := w.s.pool.QueryRow(w.t.Context(), `SELECT status = 'dead', last_heartbeat < now() - interval '1 min' FROM daemons WHERE id = $1`,
			[16]byte(w.daemons[d])).Scan(&dead, &silent); err != nil {
			w.t.Fatal(err)
		}
		record := protocol.Beats
		switch {
		case dead && silent:
			record = protocol.Dead
		case dead:
			record = protocol.Over
		case silent:
			record = protocol.Silent
		}
		out.Records = append(out.Records, record.String())
	}
	return out
}

// walk makes a trace of the model at random, and each of its steps in the store.
// Kinds of steps that were seldom made are chosen more often.
func (w *replay) walk(random *rand.Rand, most int, made map[string]int) {
	m := protocol.Recorded(w.config)
	state := m.Initial()[0]
	var trace strings.Builder
	for n := range most {
		type choice struct {
			to    protocol.State
			name  string
			kind  string
			calls []protocol.Statement
		}
		var choices []choice
		m.Next(state, func(step protocol.Step[protocol.State, protocol.Action]) {
			if step.Broken != "" {
				w.t.Fatalf("the model itself is broken: %s\n%s%s", step.Broken, trace.String(), step.Action)
			}
			kind := fmt.Sprint(step.Action.Verb, step.Action.Detail)
			choices = append(choices, choice{step.To, step.Action.String(), kind, m.Statements()})
		})
		if len(choices) == 0 || m.Ended(state) && random.IntN(3) == 0 {
			return
		}
		a, b := choices[random.IntN(len(choices))], choices[random.IntN(len(choices))]
		if made[b.kind] < made[a.kind] {
			a = b
		}
		made[a.kind]++
		fmt.Fprintf(&trace, "%4d  %s\n", n+1, a.name)
		for _, c := range a.calls {
			if problem := w.do(c); problem != "" {
				w.t.Fatalf("the statements differ from the model: %s\n%+v\nafter\n%sfrom\n%s", problem, c, trace.String(), state)
			}
		}
		state = a.to
		if diff := cmp.Diff(w.modelled(state), w.read()); diff != "" {
			w.t.Fatalf("the tables differ from the model (-model +tables):\n%s\nafter\n%s%s", diff, trace.String(), state)
		}
	}
}

// The statements do what the model of internal/protocol says that they do: traces
// of the model are made on real tables, and the two agree after each step.
func TestStoreFollowsProtocol(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.slice = 100
	seed := *replaySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	random := rand.New(rand.NewPCG(seed, 0))
	made := make(map[string]int)
	for i := range *replays {
		c := protocol.Config{Requests: 2, TwoBatches: i%4 == 3, Faults: 4, Kinds: protocol.Any, Changes: 2, Leaders: 2, Retries: 1, Slice: i % 2}
		newReplay(t, s, c, fmt.Sprint(i)).walk(random, 60, made)
		if t.Failed() {
			break
		}
		check(t, s)
	}
	t.Logf("-protocol.seed=%d: %d kinds of steps", seed, len(made))
}
