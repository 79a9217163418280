package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// node is a part of a plan as EXPLAIN (FORMAT JSON) writes it.
type node struct {
	Type      string  `json:"Node Type"`
	Relation  string  `json:"Relation Name"`
	Index     string  `json:"Index Name"`
	IndexCond string  `json:"Index Cond"`
	TIDCond   string  `json:"TID Cond"`
	Rows      float64 `json:"Actual Rows"`
	Loops     float64 `json:"Actual Loops"`
	Filtered  float64 `json:"Rows Removed by Filter"`
	Rejoined  float64 `json:"Rows Removed by Join Filter"`
	Hit       float64 `json:"Shared Hit Blocks"`
	Read      float64 `json:"Shared Read Blocks"`
	Plans     []node
}

func (n *node) walk(f func(*node)) {
	f(n)
	for i := range n.Plans {
		n.Plans[i].walk(f)
	}
}

// large are the tables that must never be read but by key.
var large = map[string]bool{"requests": true, "templates": true, "results": true}

// wholeScans lists the scans that read all of a large table.
func (n *node) wholeScans() (out []string) {
	n.walk(func(n *node) {
		if large[n.Relation] && strings.HasSuffix(n.Type, "Scan") && n.IndexCond == "" && n.TIDCond == "" {
			out = append(out, n.Type+" on "+n.Relation)
		}
	})
	return out
}

// touched is the number of rows that were read, joined or not.
func (n *node) touched() (rows float64) {
	n.walk(func(n *node) {
		if strings.HasSuffix(n.Type, "Scan") || n.Rejoined > 0 {
			rows += (n.Rows + n.Filtered + n.Rejoined) * n.Loops
		}
	})
	return rows
}

// looked is the number of blocks that were read to find rows. Those of the
// rows' changes are left out: whether a new version finds room beside the old
// one depends on what could be pruned by then.
func (n *node) looked() (blocks float64) {
	n.walk(func(n *node) {
		if n.Relation != "" && strings.HasSuffix(n.Type, "Scan") {
			blocks += n.Hit + n.Read
		}
	})
	return blocks
}

// explain returns the plan that a connection of the store makes and keeps. It
// leaves the tables as they are.
func explain(t testing.TB, s *Store, options, sql string, args ...any) *node {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Prepare(t.Context(), "explained", sql); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Conn().Deallocate(t.Context(), "explained") }()
	literals := make([]string, len(args))
	for i, a := range args {
		if literals[i] = "NULL"; a != nil {
			literals[i] = "'" + literal(t, a) + "'"
		}
	}
	var plans []struct{ Plan node }
	var text []byte
	arguments := ""
	if len(literals) > 0 {
		arguments = "(" + strings.Join(literals, ", ") + ")"
	}
	err = tx.QueryRow(t.Context(), `EXPLAIN (FORMAT JSON`+options+`) EXECUTE explained `+arguments,
		pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return &plans[0].Plan
}

func literal(t testing.TB, arg any) string {
	t.Helper()
	switch v := arg.(type) {
	case string, int, int64, int32, bool:
		return fmt.Sprint(v)
	case time.Duration:
		return fmt.Sprintf("%f s", v.Seconds())
	case [16]byte:
		return fmt.Sprintf("%x", v)
	case []byte:
		return fmt.Sprintf(`"\\x%x"`, v)
	case [][16]byte:
		return array(t, v)
	case [][]byte:
		return array(t, v)
	case []int32:
		return array(t, v)
	case []int64:
		return array(t, v)
	case []bool:
		return array(t, v)
	case []string:
		quoted := make([]string, len(v))
		for i := range v {
			quoted[i] = `"` + v[i] + `"`
		}
		return array(t, quoted)
	}
	t.Fatalf("no literal of %T", arg)
	return ""
}

func array[T any](t testing.TB, items []T) string {
	t.Helper()
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = literal(t, item)
	}
	return "{" + strings.Join(out, ",") + "}"
}

// statement is one of the hot path, with its arguments.
type statement struct {
	name, sql string
	args      []any
}

// hot lists the statements that a request passes through, for the given
// requests, which are processing, and a batch to claim as many from.
func hot(d batch.DaemonID, id batch.ID, deliveries []Delivery) []statement {
	n := len(deliveries)
	k := newKeys(n)
	for _, delivery := range deliveries {
		k.add(delivery.ID, delivery.Claim, delivery.Number+1)
	}
	var b pgx.Batch
	queueCompletions(&b, d, endings(answered, deliveries), finishSQL, nil)
	returns := make([]Release, n)
	for i := range returns {
		returns[i].Delivery = deliveries[i]
	}
	queueReleases(&b, d, returns, nil)
	r := rules(d)
	out := []statement{
		{"claim", claimSQL, []any{string(testModel), [][16]byte{id}, []int32{int32(n)}, []string{string(testModel)}, []int64{0}, []int64{0}}},
		{"claim due", claimDueSQL, []any{string(testModel), [][16]byte{id}, []bool{false}, []int32{int32(n)}, []string{string(otherName)}, []string{string(testModel)}, []int64{1e6}}},
		{"due", dueBatchesSQL, []any{string(testModel), [16]byte{}, maxDueBatches, int64(1), int64(n), [][16]byte{}}},
		{"start", startSQL, []any{k.batches, k.lines, k.claims, k.deliveries, [16]byte(d), r.ProcessingTimeout, r.StaleThreshold, defaultStartBytes}},
		{"refused", refusedSQL, []any{k.batches, k.lines, k.claims, k.deliveries, r.ProcessingTimeout, r.StaleThreshold}},
		{"lock requests", lockRequestsSQL, []any{k.batches, k.lines}},
		{"live", liveSQL, []any{k.batches, k.lines, k.claims, k.deliveries}},
		{"unclaim", releaseClaimsSQL, []any{k.batches, k.lines, k.claims, k.deliveries, time.Minute}},
		{"results", resultsSQL, []any{[16]byte(id), 0, nil, 0, n, resultsPageBytes}},
	}
	owed := callbackKeys(make([]Callback, n))
	out = append(out,
		statement{"end and owe", finishOweSQL, b.QueuedQueries[1].Arguments},
		statement{"callbacks made", doneCallbacksSQL, []any{owed.batches, owed.seqs, owed.inTx}},
		statement{"callbacks failed", failedCallbacksSQL, []any{[16]byte(d), owed.batches, owed.seqs, owed.inTx, make([]int64, n)}},
		statement{"callbacks to take", takeCallbacksSQL, []any{[16]byte(d), r.StaleThreshold, []bool{false, true}, n}},
		statement{"owed result", owedResultSQL, []any{[16]byte(id), int64(0)}},
	)
	for i, name := range []string{"lock batches", "end", "return"} {
		out = append(out, statement{name, b.QueuedQueries[i].SQL, b.QueuedQueries[i].Arguments})
	}
	return out
}

// A queue is empty every now and then, and vacuumed then. Plans made with such
// statistics are kept for as long as the connection lives.
func TestPlansWhenTablesLookEmpty(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	look := func(t *testing.T, id batch.ID) {
		for _, st := range hot(d, id, []Delivery{{ID: batch.RequestID{Batch: id, Line: 1}, Claim: 1, Number: 1}}) {
			if scans := explain(t, s, "", st.sql, st.args...).wholeScans(); len(scans) > 0 {
				t.Errorf("%s: %v", st.name, scans)
			}
		}
	}
	t.Run("never used", func(t *testing.T) {
		sqlExec(t, s, `VACUUM ANALYZE`)
		look(t, batch.ID{1})
	})
	t.Run("one request left", func(t *testing.T) {
		id := newBatch(t, s, 5000)
		claimed(t, s, id, 5000)
		sqlExec(t, s, `DELETE FROM requests WHERE line < 5000`)
		sqlExec(t, s, `VACUUM requests`)
		look(t, id)
	})
}

// What a statement reads follows from what it is asked for, and not from what
// waits, is live or has ended.
func TestPlansDoNotGrow(t *testing.T) {
	t.Parallel()
	const asked = 50
	s := newStore(t)
	d := newDaemon(t, s)
	type cost struct{ rows, blocks float64 }
	measure := func(pending, live int) map[string]cost {
		id := batchOf(t, s, newLargeFile(t, s, pending))
		deliveries := started(t, s, d, id, live)
		finish(t, s, d, endings(answered, deliveries[:live/2])...)
		// Half of what is live still waits for a new claim.
		sqlExec(t, s, `UPDATE requests SET state = 'pending', daemon_id = NULL, due_at = now() WHERE batch_id = $1 AND line > $2`,
			[16]byte(id), live*3/4)
		sqlExec(t, s, `VACUUM ANALYZE`)
		costs := make(map[string]cost)
		for _, st := range hot(d, id, deliveries[live/2:][:asked]) {
			plan := explain(t, s, ", ANALYZE, BUFFERS", st.sql, st.args...)
			if scans := plan.wholeScans(); len(scans) > 0 {
				t.Errorf("%s: %v", st.name, scans)
			}
			costs[st.name] = cost{rows: plan.touched(), blocks: plan.looked()}
		}
		return costs
	}
	small, big := measure(5_000, 500), measure(100_000, 5_000)
	// The second measure finds a batch more, which costs a list of batches some
	// rows, and indexes may have a level more.
	for name, before := range small {
		after := big[name]
		t.Logf("%-12s %5.0f rows in %5.0f blocks; %5.0f in %5.0f", name, before.rows, before.blocks, after.rows, after.blocks)
		if after.rows > before.rows+20 || after.rows > 13*asked {
			t.Errorf("%s reads %.0f rows, and %.0f of a batch 20 times as large", name, before.rows, after.rows)
		}
		if after.blocks > 1.5*before.blocks+20 {
			t.Errorf("%s reads %.0f blocks, and %.0f of a batch 20 times as large", name, before.blocks, after.blocks)
		}
	}
}
