package postgres

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

// A request of line 1 is claimed; each case does something to it and then
// delivers its message.
// startScene is a request that one delivery of a message is about.
type startScene struct {
	t     *testing.T
	s     *Store
	first Delivery       // of claim 1
	a, b  batch.DaemonID // both live
}

func (sc startScene) set(column, value string) {
	sqlExec(sc.t, sc.s, `UPDATE requests SET `+column+` = `+value+` WHERE batch_id = $1`, [16]byte(sc.first.ID.Batch))
}

func (sc startScene) back(d Delivery, delay time.Duration) {
	if _, err := sc.s.Finish(sc.t.Context(), sc.a, nil, []Release{{Delivery: d, Retry: true, Delay: delay}}); err != nil {
		sc.t.Fatal(err)
	}
}

func deliveredAs(d Delivery, number int) Delivery {
	d.Number = number
	return d
}

type startCase struct {
	name      string
	before    func(startScene)
	claim     int // of the message; 0: 1
	number    int
	want      Verdict
	takeovers int
	wait      time.Duration
}

func startCases() []startCase {
	return []startCase{
		{name: "first", number: 1, want: Started},
		{name: "first, late", number: 7, want: Started},
		{name: "message of an earlier claim", number: 5, want: Stale, before: func(sc startScene) { sc.set("claim", "2") }},
		{name: "message of a later claim", number: 1, claim: 2, want: Stale},
		{name: "the answer of its start was lost", number: 1, want: Started,
			before: func(sc startScene) { start(sc.t, sc.s, rules(sc.b), sc.first) }},
		{name: "redelivered to the same daemon", number: 2, want: Started,
			before: func(sc startScene) { start(sc.t, sc.s, rules(sc.b), sc.first) }},
		{name: "the same delivery at another daemon", number: 1, want: Busy, wait: time.Minute,
			before: func(sc startScene) { start(sc.t, sc.s, rules(sc.a), sc.first) }},
		{name: "the same delivery at another daemon, its own is dead", number: 1, want: Busy,
			before: func(sc startScene) { start(sc.t, sc.s, rules(NewDaemonID()), sc.first) }},
		{name: "released, the same delivery", number: 1, want: Early, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.back(sc.first, 0)
		}},
		{name: "its daemon lives", number: 2, want: Busy, wait: time.Minute,
			before: func(sc startScene) { start(sc.t, sc.s, rules(sc.a), sc.first) }},
		{name: "its daemon was heard of 29 s ago, 30 min into the call", number: 2, want: Busy, wait: 31 * time.Second, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.set("started_at", "now() - interval '30 min'")
			sqlExec(sc.t, sc.s, `UPDATE daemons SET last_heartbeat = now() - interval '29 s' WHERE id = $1`, [16]byte(sc.a))
		}},
		{name: "its call is near its timeout", number: 2, want: Busy, wait: 30 * time.Second, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.set("started_at", "now() - interval '59 min 30 s'")
		}},
		{name: "its daemon is stale", number: 2, want: Started, takeovers: 1, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			silence(sc.t, sc.s, sc.a)
		}},
		{name: "its daemon said it is stopping", number: 2, want: Started, takeovers: 1, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			if err := sc.s.EndDaemon(sc.t.Context(), sc.a); err != nil {
				sc.t.Fatal(err)
			}
		}},
		{name: "nobody knows its daemon", number: 2, want: Started, takeovers: 1,
			before: func(sc startScene) { start(sc.t, sc.s, rules(NewDaemonID()), sc.first) }},
		{name: "past the processing timeout", number: 2, want: Started, takeovers: 1, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.set("started_at", "now() - interval '61 min'")
		}},
		{name: "second takeover", number: 3, want: Started, takeovers: 2, before: func(sc startScene) {
			start(sc.t, sc.s, rules(NewDaemonID()), sc.first)
			start(sc.t, sc.s, rules(NewDaemonID()), deliveredAs(sc.first, 2))
		}},
		{name: "an earlier delivery, its daemon is dead", number: 1, want: Busy,
			before: func(sc startScene) { start(sc.t, sc.s, rules(NewDaemonID()), deliveredAs(sc.first, 2)) }},
		{name: "an earlier delivery at the same daemon", number: 1, want: Busy, wait: time.Minute,
			before: func(sc startScene) { start(sc.t, sc.s, rules(sc.b), deliveredAs(sc.first, 2)) }},
		{name: "in backoff", number: 2, want: Early, wait: time.Hour, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.back(sc.first, time.Hour)
		}},
		{name: "in backoff, the same delivery", number: 1, want: Early, wait: time.Hour, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.b), sc.first)
			sc.a = sc.b
			sc.back(sc.first, time.Hour)
		}},
		{name: "backoff ends within 100 ms", number: 2, want: Started, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.back(sc.first, 90*time.Millisecond)
		}},
		{name: "backoff is over", number: 2, want: Started, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.back(sc.first, time.Hour)
			sc.set("not_before", "now() - interval '1 ms'")
		}},
		{name: "released", number: 2, want: Started, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			sc.back(sc.first, 0)
		}},
		{name: "ended", number: 2, want: Stale, before: func(sc startScene) {
			start(sc.t, sc.s, rules(sc.a), sc.first)
			finish(sc.t, sc.s, sc.a, completed(sc.first))
		}},
		{name: "waits for a new claim", number: 1, want: Stale, before: func(sc startScene) {
			r := ClaimedRequest{ID: sc.first.ID, Claim: 1}
			if n, err := sc.s.ReleaseClaims(sc.t.Context(), []ClaimedRequest{r}, time.Hour); err != nil || n != 1 {
				sc.t.Fatal(n, err)
			}
		}},
	}
}

func TestStartVerdict(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, test := range startCases() {
		t.Run(test.name, func(t *testing.T) {
			sc := startScene{t: t, s: s, first: claimed(t, s, newBatch(t, s, 1), 1)[0], a: newDaemon(t, s), b: newDaemon(t, s)}
			if test.before != nil {
				test.before(sc)
			}
			d := deliveredAs(sc.first, test.number)
			d.Claim = max(test.claim, 1)
			row := func() (out string) {
				const sql = `SELECT COALESCE((SELECT r::text FROM requests r WHERE batch_id = $1), 'none')`
				if err := s.queryRow(t.Context(), sql, []any{[16]byte(d.ID.Batch)}, &out); err != nil {
					t.Fatal(err)
				}
				return out
			}
			before := row()
			got := start(t, s, rules(sc.b), d)[0]
			if got.Verdict != test.want || got.Takeovers != test.takeovers {
				t.Errorf("verdict %d with %d takeovers, want %d with %d", got.Verdict, got.Takeovers, test.want, test.takeovers)
			}
			if (row() != before) != (test.want == Started) {
				t.Errorf("verdict %d; the row was %s and is %s", got.Verdict, before, row())
			}
			// What is missing has passed in this test.
			if got.Wait > test.wait || got.Wait < test.wait/60 {
				t.Errorf("wait %s, want %s", got.Wait, test.wait)
			}
			if test.want == Started {
				n := sqlInt(t, s, `SELECT count(*) FROM requests WHERE batch_id = $1 AND state = 'processing' AND daemon_id = $2
					AND delivery = $3 AND not_before IS NULL AND started_at > now() - interval '1 min'`,
					[16]byte(d.ID.Batch), [16]byte(sc.b), test.number)
				if n != 1 {
					t.Errorf("the row is %s", row())
				}
			}
			check(t, s)
		})
	}
}

func TestStartOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 3)
	claimed(t, s, id, 1)
	for _, st := range start(t, s, rules(d),
		Delivery{ID: batch.RequestID{Batch: id, Line: 2}, Claim: 1, Number: 1}, // pending
		Delivery{ID: batch.RequestID{Batch: id, Line: 99}, Claim: 1, Number: 1},
		Delivery{ID: batch.RequestID{Batch: batch.ID{1}, Line: 1}, Claim: 1, Number: 1},
	) {
		if st.Verdict != Stale {
			t.Errorf("verdict %d", st.Verdict)
		}
	}
	if got := start(t, s, rules(d)); len(got) != 0 {
		t.Errorf("%v", got)
	}
	check(t, s)
}

func TestStartReturnsTheTemplate(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lines := templates(1, 5, testModel)
	lines[0].Body = []byte("\x00\x01\xff, not text")
	lines[1].Body = []byte{}
	lines[2].Body = make([]byte, 1<<20)
	lines[3].Method, lines[3].Path, lines[3].CustomID = "PUT", "/v1/ö?x=%20", "日本語"
	id := batchOf(t, s, newFile(t, s, lines))
	deliveries := claimed(t, s, id, 5)
	rand.Shuffle(5, func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	for i, st := range start(t, s, rules(newDaemon(t, s)), deliveries...) {
		want := lines[deliveries[i].ID.Line-1]
		if diff := cmp.Diff(want, st.Template, asBytes); diff != "" {
			t.Errorf("template of line %d (-want +got):\n%s", want.Line, diff)
		}
	}
}

// The time that remains is judged by Postgres's clock, and the deadline is as it
// is stored: whenever a request starts, and wherever.
func TestStartRemaining(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, hours := range []int{-2, 0, 3} {
		id := newBatch(t, s, 1)
		sqlExec(t, s, `UPDATE batches SET expires_at = now() + $2 * interval '1 h' WHERE id = $1`, [16]byte(id), hours)
		got := start(t, s, rules(newDaemon(t, s)), claimed(t, s, id, 1)...)[0]
		want := time.Duration(hours) * time.Hour
		if got.Remaining > want || got.Remaining < want-time.Minute {
			t.Errorf("%s remain, want %s", got.Remaining, want)
		}
		if b, err := s.GetBatch(t.Context(), id, nil); err != nil || !got.Deadline.Equal(b.ExpiresAt) {
			t.Errorf("the deadline is %s, want %s (%v)", got.Deadline, b.ExpiresAt, err)
		}
	}
}

func TestStartAttempt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	delivery := started(t, s, d, newBatch(t, s, 1), 1)[0]
	for i, b := range []Release{
		{Retry: true, Reason: batch.RetriableHTTPStatus, StatusCode: 503, Cause: "overloaded"},
		{Retry: true, Reason: batch.NetworkError, Cause: "connection reset"},
		{Refused: true},
	} {
		b.Delivery = delivery
		if written, err := s.Finish(t.Context(), d, nil, []Release{b}); err != nil || !written[delivery.ID] {
			t.Fatalf("return %d: %v, %v", i, written, err)
		}
		delivery.Number++
		want := []int{1, 2, 2}[i]
		if got := start(t, s, rules(d), delivery)[0]; got.Verdict != Started || got.Attempt != want || got.Takeovers != 0 || got.Refused != i/2 {
			t.Errorf("after return %d: %+v, want attempt %d", i, got, want)
		}
	}
	// The last failure stays until there is another, as a whole.
	n := sqlInt(t, s, `SELECT count(*) FROM requests WHERE last_reason = 'network_error' AND last_status IS NULL AND last_cause = 'connection reset'`)
	if n != 1 {
		t.Errorf("%d requests have the last reason", n)
	}
}

// Many daemons are given the same requests, in different orders: by whatever
// order they come, one daemon has each in the end, and none waits for another.
func TestConcurrentTakeovers(t *testing.T) {
	t.Parallel()
	const daemons, lines, rounds = 6, 60, 5
	s := newStore(t)
	id := newBatch(t, s, lines*rounds)
	ids := make([]batch.DaemonID, daemons)
	for i := range ids {
		ids[i] = newDaemon(t, s)
	}
	for range rounds {
		dead := NewDaemonID()
		first := started(t, s, dead, id, lines)
		owners := make([]map[batch.RequestID]Delivery, daemons)
		var wg sync.WaitGroup
		for i, d := range ids {
			deliveries := make([]Delivery, lines)
			for j, k := range rand.Perm(lines) {
				deliveries[j] = first[k]
				deliveries[j].Number = 2 + i
			}
			wg.Go(func() {
				starts, err := s.Start(t.Context(), rules(d), deliveries)
				if err != nil {
					t.Error(err)
					return
				}
				owners[i] = make(map[batch.RequestID]Delivery)
				for j, st := range starts {
					if st.Verdict == Started {
						owners[i][deliveries[j].ID] = deliveries[j]
					}
				}
			})
		}
		wg.Wait()
		owned := make(map[batch.RequestID]int)
		for i, d := range ids {
			for _, delivery := range owners[i] {
				owned[delivery.ID]++
				if finish(t, s, d, completed(delivery)) != 1 {
					t.Errorf("%s: the result of its owner was not written", delivery.ID)
				}
			}
		}
		if len(owned) != lines {
			t.Errorf("%d of %d were started", len(owned), lines)
		}
		for id, n := range owned {
			if n != 1 {
				t.Errorf("%s was started by %d daemons", id, n)
			}
		}
	}
	check(t, s)
}

// No more bodies come at once than may, and those that wait come with the next
// call, as if nothing had happened.
func TestStartDefersBodies(t *testing.T) {
	t.Parallel()
	const n, size = 7, 1000
	s := newStore(t)
	d := newDaemon(t, s)
	lines := templates(1, n, testModel)
	for i := range lines {
		lines[i].Body = fmt.Appendf(nil, `{"pad":"%0*d"}`, size-10, i)
	}
	in := claimed(t, s, batchOf(t, s, newFile(t, s, lines)), n)
	r := rules(d)
	bodies := make(map[int32]string)
	var came []int
	for left := in; len(left) > 0; {
		r.MaxBytes = 2*size + 1 // as much and one body more
		if len(came) > 0 {
			r.MaxBytes = 1
		}
		var deferred []Delivery
		for i, st := range start(t, s, r, left...) {
			switch {
			case st.Verdict == Deferred && st.Template.Body == nil:
				deferred = append(deferred, left[i])
			case st.Verdict == Started && st.Takeovers == 0 && st.Attempt == 0:
				bodies[left[i].ID.Line] = string(st.Template.Body)
			default:
				t.Fatalf("start is %+v", st)
			}
		}
		came = append(came, len(left)-len(deferred))
		left = deferred
	}
	if diff := cmp.Diff([]int{3, 1, 1, 1, 1}, came); diff != "" {
		t.Errorf("bodies by call (-want +got):\n%s", diff)
	}
	for _, l := range lines {
		if bodies[l.Line] != string(l.Body) {
			t.Errorf("line %d: the body is not the template's", l.Line)
		}
	}
	if n := finish(t, s, d, endings(completed, in)...); n != len(in) {
		t.Errorf("%d of %d finished", n, len(in))
	}
	check(t, s)
}
