package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

// request is what a model keeps of a claimed request: the columns that fence.
type request struct {
	State                               batch.State
	Claim, Delivery, Attempt, Takeovers int
	Daemon                              batch.DaemonID
	Due                                 bool // waits for a new claim
	Later                               bool // its backoff or delay is not over
	hung                                bool // processing for too long
}

// world is a model of the store under several daemons, whose messages are
// delivered late, twice and out of order, and the store that must agree.
type world struct {
	s        *Store
	model    batch.Model // of this world alone
	batches  []batch.ID
	lines    map[batch.ID]int         // up to the cursor
	skipped  map[batch.ID]batch.State // what lines beyond a closed cursor ended as
	size     int                      // lines of each batch
	requests map[batch.RequestID]*request
	daemons  []batch.DaemonID
	alive    map[batch.DaemonID]bool
	sent     []Delivery       // a message per claim; Number is the last delivery
	started  []attempt        // every start that was granted
	ended    map[batch.ID]int // requests that have a result
	kept     map[batch.ID]int // of them in results
	results  map[batch.ID]*checker.Results
}

type attempt struct {
	daemon   batch.DaemonID
	delivery Delivery
}

func pick[T any](t *rapid.T, from []T, label string) T {
	if len(from) == 0 {
		t.Skip("nothing to pick")
	}
	return from[len(from)-rapid.IntRange(1, len(from)).Draw(t, label)] // often one of the last
}

// some picks a few of the items, each with another id.
func some[T any](t *rapid.T, from []T, id func(T) batch.RequestID, label string) (out []T) {
	taken := make(map[batch.RequestID]bool)
	for range rapid.IntRange(1, 6).Draw(t, label+"s") {
		if item := pick(t, from, label); !taken[id(item)] {
			taken[id(item)] = true
			out = append(out, item)
		}
	}
	return out
}

func must[T any](t *rapid.T, v T, err error) T {
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *world) send(r ClaimedRequest) { w.sent = append(w.sent, Delivery{ID: r.ID, Claim: r.Claim}) }

func (w *world) claim(t *rapid.T) {
	id := pick(t, w.batches, "batch")
	n := rapid.IntRange(0, w.size).Draw(t, "n")
	got, err := w.s.Claim(t.Context(), w.model, []Quota{{Batch: id, N: n}})
	must(t, got, err)
	if want := min(n, len(w.pending(id))); len(got) != want {
		t.Fatalf("%d claimed, want %d", len(got), want)
	}
	for _, r := range got {
		w.lines[id] = int(w.pending(id)[0])
		if want := (batch.RequestID{Batch: id, Line: int32(w.lines[id])}); r.ID != want || r.Claim != 1 {
			t.Fatalf("claimed %+v, want line %d", r, want.Line)
		}
		w.requests[r.ID] = &request{State: batch.Claimed, Claim: 1}
		w.send(r)
	}
}

func (w *world) claimDue(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "n")
	ready := 0
	for _, r := range w.requests {
		if r.Due && !r.Later {
			ready++
		}
	}
	got, err := w.s.claimAnyDue(t.Context(), w.model, n, nil)
	must(t, got, err)
	if want := min(n, ready); len(got) != want {
		t.Fatalf("%d claimed, want %d", len(got), want)
	}
	for _, c := range got {
		r := w.requests[c.ID]
		if !r.Due || r.Later || c.Claim != r.Claim+1 || c.Attempt != r.Attempt {
			t.Fatalf("claimed %+v, which is %+v", c, r)
		}
		*r = request{State: batch.Claimed, Claim: c.Claim, Attempt: r.Attempt, Takeovers: r.Takeovers}
		w.send(c)
	}
}

// pending are the lines that were never claimed.
func (w *world) pending(id batch.ID) (lines []int32) {
	if w.skipped[id] != "" {
		return nil
	}
	return w.beyond(id)
}

// beyond are the lines beyond the cursor that have no row.
func (w *world) beyond(id batch.ID) (lines []int32) {
	for line := int32(w.lines[id] + 1); line <= int32(w.size); line++ {
		if w.requests[batch.RequestID{Batch: id, Line: line}] == nil {
			lines = append(lines, line)
		}
	}
	return lines
}

// verdict predicts the answer to a start.
func (w *world) verdict(d batch.DaemonID, delivery Delivery) Verdict {
	r := w.requests[delivery.ID]
	if r == nil {
		return Stale // skipped and pending again
	}
	own := r.State == batch.Processing && r.Daemon == d
	switch {
	case r.State.Terminal() || r.Claim != delivery.Claim || r.Due:
		return Stale
	case (r.Delivery > delivery.Number || r.Delivery == delivery.Number && !own) && r.State == batch.Processing:
		return Busy // the message is kept
	case r.Later || r.Delivery > delivery.Number || r.Delivery == delivery.Number && !own:
		return Early
	case r.State == batch.Processing && !own && w.alive[r.Daemon] && !r.hung:
		return Busy
	}
	return Started
}

func (w *world) start(t *rapid.T) {
	d := pick(t, w.daemons, "daemon")
	var deliveries []Delivery
	byID := func(i int) batch.RequestID { return w.sent[i].ID }
	indexes := make([]int, len(w.sent))
	for i := range indexes {
		indexes[i] = i
	}
	for _, i := range some(t, indexes, byID, "message") {
		m := &w.sent[i]
		if m.Number == 0 || rapid.Bool().Draw(t, "redelivered") {
			m.Number++
		}
		late := *m // perhaps an earlier delivery that was under way
		late.Number = rapid.IntRange(max(m.Number-1, 1), m.Number).Draw(t, "number")
		deliveries = append(deliveries, late)
	}
	got, err := w.s.Start(t.Context(), rules(d), deliveries)
	must(t, got, err)
	for i, delivery := range deliveries {
		r := w.requests[delivery.ID]
		want := w.verdict(d, delivery)
		if want == Started {
			if r.State == batch.Processing && r.Daemon != d {
				r.Takeovers++
			}
			r.State, r.Daemon, r.Delivery, r.hung = batch.Processing, d, delivery.Number, false
			w.started = append(w.started, attempt{d, delivery})
		}
		if got[i].Verdict != want || want == Started && (got[i].Attempt != r.Attempt || got[i].Takeovers != r.Takeovers) {
			t.Fatalf("start of %+v by %s: %+v, want verdict %d of %+v", delivery, d, got[i], want, r)
		}
	}
}

// finish writes what daemons learnt of their calls, some of it long since
// taken from them.
func (w *world) finish(t *rapid.T) {
	d := pick(t, w.started, "finisher").daemon
	attempts := w.started
	if rapid.IntRange(0, 3).Draw(t, "own") > 0 {
		attempts = slices.DeleteFunc(slices.Clone(attempts), func(a attempt) bool { return a.daemon != d })
	}
	var set []Completion
	var returns []Release
	for _, a := range some(t, attempts, func(a attempt) batch.RequestID { return a.delivery.ID }, "attempt") {
		switch rapid.IntRange(0, 3).Draw(t, "outcome") {
		case 0:
			set = append(set, completed(a.delivery))
		case 1:
			set = append(set, failed(a.delivery))
		case 2:
			returns = append(returns, Release{Delivery: a.delivery, Retry: true, Delay: time.Hour})
		case 3:
			returns = append(returns, Release{Delivery: a.delivery})
		}
	}
	got, err := w.s.Finish(t.Context(), d, set, returns)
	must(t, got, err)
	want := make(map[batch.RequestID]bool)
	mine := func(delivery Delivery) *request {
		r := w.requests[delivery.ID]
		if r.State != batch.Processing || r.Daemon != d || r.Claim != delivery.Claim || r.Delivery != delivery.Number {
			return nil
		}
		want[delivery.ID] = true
		return r
	}
	for _, e := range set {
		if r := mine(e.Delivery); r != nil {
			w.conclude(e.ID, e.State)
		}
	}
	for _, b := range returns {
		r := mine(b.Delivery)
		if r == nil {
			continue
		}
		r.State, r.Daemon, r.Later = batch.Pending, batch.DaemonID{}, b.Delay > 0
		if b.Retry {
			r.Attempt++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("written by %s (-want +got):\n%s", d, diff)
	}
}

func (w *world) release(t *rapid.T) {
	delay := time.Duration(rapid.IntRange(0, 1).Draw(t, "hours")) * time.Hour
	var set []ClaimedRequest
	for _, m := range some(t, w.sent, func(m Delivery) batch.RequestID { return m.ID }, "message") {
		set = append(set, ClaimedRequest{ID: m.ID, Claim: m.Claim, Delivery: rapid.IntRange(0, m.Number).Draw(t, "delivery")})
	}
	want := 0
	for _, c := range set {
		r := w.requests[c.ID]
		if r == nil || r.State.Terminal() || r.Claim != c.Claim || r.Delivery != c.Delivery {
			continue
		}
		r.State, r.Daemon, r.Due, r.Later = batch.Pending, batch.DaemonID{}, true, delay > 0
		want++
	}
	got, err := w.s.ReleaseClaims(t.Context(), set, delay)
	if must(t, got, err) != want {
		t.Fatalf("%d released, want %d", got, want)
	}
}

func (w *world) sql(t *rapid.T, sql string, args ...any) {
	n, err := w.s.exec(t.Context(), sql, args...)
	must(t, n, err)
}

// silence makes a daemon stale, or alive again.
func (w *world) silence(t *rapid.T) {
	d := pick(t, w.daemons, "daemon")
	if w.alive[d] = !w.alive[d]; w.alive[d] {
		must(t, 0, w.s.Heartbeat(t.Context(), d, Progress{}))
		return
	}
	w.sql(t, `UPDATE daemons SET last_heartbeat = now() - interval '61 s' WHERE id = $1`, [16]byte(d))
}

// end ends a daemon for good and begins another.
func (w *world) end(t *rapid.T) {
	i := rapid.IntRange(0, len(w.daemons)-1).Draw(t, "daemon")
	must(t, 0, w.s.EndDaemon(t.Context(), w.daemons[i]))
	w.alive[w.daemons[i]] = false
	w.daemons[i] = w.begin(t)
}

func (w *world) begin(t *rapid.T) batch.DaemonID {
	id := NewDaemonID()
	must(t, 0, w.s.RegisterDaemon(t.Context(), Daemon{ID: id, Role: "consumer"}))
	w.alive[id] = true
	return id
}

func (w *world) hang(t *rapid.T) {
	id := pick(t, w.started, "attempt").delivery.ID
	if r := w.requests[id]; r.State == batch.Processing {
		r.hung = true
		w.sql(t, `UPDATE requests SET started_at = now() - interval '2 h' WHERE batch_id = $1 AND line = $2`, [16]byte(id.Batch), id.Line)
	}
}

func (w *world) keys() [][16]byte {
	out := make([][16]byte, len(w.batches))
	for i, id := range w.batches {
		out[i] = [16]byte(id)
	}
	return out
}

// elapse ends every backoff and delay.
func (w *world) elapse(t *rapid.T) {
	w.sql(t, `
UPDATE requests SET not_before = not_before - interval '2 h', due_at = due_at - interval '2 h'
 WHERE batch_id = ANY ($1) AND (due_at > now() OR not_before > now())`, w.keys())
	for _, r := range w.requests {
		r.Later = false
	}
}

// check compares every row with the model, and results with what they were.
func (w *world) check(t *rapid.T) {
	rows, err := w.s.db.Query(t.Context(), `
SELECT batch_id, line, state::text, claim, delivery, attempt, takeovers, COALESCE(daemon_id, '00000000-0000-0000-0000-000000000000'),
       due_at IS NOT NULL, COALESCE(COALESCE(due_at, not_before) > now(), false)
  FROM requests WHERE batch_id = ANY ($1)
UNION ALL
SELECT batch_id, line, state::text, claim, 0, 0, 0, '00000000-0000-0000-0000-000000000000', false, false
  FROM results WHERE batch_id = ANY ($1)`, w.keys())
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[batch.RequestID]*request)
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var id batch.RequestID
		var r request
		err := row.Scan((*[16]byte)(&id.Batch), &id.Line, &r.State, &r.Claim, &r.Delivery, &r.Attempt, &r.Takeovers,
			(*[16]byte)(&r.Daemon), &r.Due, &r.Later)
		if got[id] != nil {
			err = errors.Join(err, fmt.Errorf("%s is there twice", id))
		}
		got[id] = &r
		return struct{}{}, err
	})
	must(t, got, err)
	same := func(want, got *request) bool {
		visible := *want
		visible.hung = false
		return visible == *got
	}
	if !maps.EqualFunc(w.requests, got, same) { // cmp takes a while
		t.Fatalf("requests (-want +got):\n%s", cmp.Diff(w.requests, got, cmp.AllowUnexported(request{})))
	}
	for _, id := range w.batches {
		must(t, 0, checker.Check(t.Context(), w.s.pool, id))
		if before := w.results[id]; before != nil {
			must(t, 0, before.Unchanged(t.Context(), w.s.pool))
		}
		w.checkCounts(t, id)
		if w.ended[id] != w.kept[id] {
			now, err := checker.Snapshot(t.Context(), w.s.pool, id)
			w.results[id], w.kept[id] = must(t, now, err), w.ended[id]
		}
	}
}

// Whatever daemons do and messages go through, the store agrees with the model
// after each step, and its tables with one another.
func TestStoreAgreesWithModel(t *testing.T) {
	t.Parallel()
	agrees(t, newStore(t), 100)
}

// agrees plays so many worlds, up to the hundred that rapid asks for, or until one
// fails: that one is played again, smaller.
func agrees(t *testing.T, s *Store, most int) {
	t.Helper()
	s.slice = 2 // cancels, expiry and reruns go in several transactions
	worlds, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if worlds++; worlds > most && !failed {
			return
		}
		agreed := false
		defer func() { failed = failed || !agreed }()
		w := &world{
			s: s, model: batch.Model(fmt.Sprintf("model-%d", worlds)), size: 8, lines: make(map[batch.ID]int),
			skipped: make(map[batch.ID]batch.State), requests: make(map[batch.RequestID]*request), alive: make(map[batch.DaemonID]bool), results: make(map[batch.ID]*checker.Results),
			ended: make(map[batch.ID]int), kept: make(map[batch.ID]int),
		}
		file := newFile(t, s, templates(1, w.size, w.model))
		w.batches = []batch.ID{batchOf(t, s, file), batchOf(t, s, file)}
		w.daemons = []batch.DaemonID{w.begin(rt), w.begin(rt), w.begin(rt)}
		rt.Repeat(map[string]func(*rapid.T){
			"claim": w.claim, "claimDue": w.claimDue, "release": w.release, "silence": w.silence, "end": w.end, "hang": w.hang, "elapse": w.elapse, "": w.check,
			"cancel lines": w.cancelLines, "expire": w.expire, "cancel": w.cancel, "retry": w.retry, "retry lines": w.retryLines,
			// More often than what disturbs them.
			"start": w.start, "start 2": w.start, "start 3": w.start, "finish": w.finish, "finish 2": w.finish, "finish 3": w.finish,
		})
		agreed = true
	})
}
