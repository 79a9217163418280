package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// budgeted makes a batch of n lines with a budget.
func budgeted(t testing.TB, s *Store, n int, budget batch.Budget, models ...batch.Model) batch.ID {
	t.Helper()
	id := newBatch(t, s, n, models...)
	if spent := setNewBudget(t, s, id, budget); spent {
		t.Fatal("a budget of which nothing was used is spent")
	}
	return id
}

func setNewBudget(t testing.TB, s *Store, id batch.ID, budget batch.Budget) (spent bool) {
	t.Helper()
	spent, err := s.ChangeBatch(t.Context(), id, BatchChange{Budget: &budget})
	if err != nil {
		t.Fatal(err)
	}
	return spent
}

// using makes completions that use so many tokens each: a third of them in prompts.
func using(tokens int64, deliveries ...Delivery) []Completion {
	out := endings(completed, deliveries)
	for i := range out {
		out[i].Usage = batch.Usage{PromptTokens: tokens / 3, CompletionTokens: tokens - tokens/3}
	}
	return out
}

// flush stores completions, and reports whether a budget is spent with them.
func flush(t testing.TB, s *Store, d batch.DaemonID, id batch.ID, completions []Completion) (spent bool) {
	t.Helper()
	written, err := s.Finish(t.Context(), d, completions, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range completions {
		if !written[c.ID] {
			t.Errorf("line %d was not written", c.ID.Line)
		}
	}
	return written[batch.RequestID{Batch: id}]
}

func endOverBudget(t testing.TB, s *Store) []EndedBatch {
	t.Helper()
	ended, err := s.EndOverBudget(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

func getBatch(t testing.TB, s *Store, id batch.ID) Batch {
	t.Helper()
	b, err := s.GetBatch(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is in flight when the budget is spent ends as its calls do; nothing else of the
// batch is called, and the batch is cancelled.
func TestBudgetSpent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := budgeted(t, s, 40, batch.Budget{Tokens: 300}, testModel, otherName)
	other := newBatch(t, s, 3)
	calls := started(t, s, d, id, 8)
	waiting := claimed(t, s, id, 4)
	if flush(t, s, d, id, using(100, calls[0], calls[1])) {
		t.Error("spent with 200 of 300 tokens")
	}
	lost := failed(calls[2])
	lost.Usage = batch.Usage{PromptTokens: 500}
	if flush(t, s, d, id, []Completion{lost}) {
		t.Error("spent by a request that failed")
	}
	if got := endOverBudget(t, s); len(got) != 0 {
		t.Errorf("ended %+v", got)
	}
	if !flush(t, s, d, id, using(100, calls[3])) {
		t.Error("not spent with 300 of 300 tokens")
	}
	if flush(t, s, d, id, using(100, calls[4])) {
		t.Error("spent twice")
	}
	b := getBatch(t, s, id)
	if b.BudgetExceededAt.IsZero() || b.Status != batch.StatusInProgress || b.Bill().Tokens() != 400 || !b.Bill().Spent() {
		t.Errorf("%+v", b)
	}
	check(t, s)
	if got := endOverBudget(t, s); len(got) != 1 || got[0] != (EndedBatch{Batch: id, Requests: 32}) {
		t.Fatalf("ended %+v", got)
	}
	check(t, s)
	if c := counts(t, s, id); c.Canceled != 32 || c.InProgress != 3 || c.Pending != 0 {
		t.Errorf("%+v", c)
	}
	for _, st := range start(t, s, rules(d), waiting...) {
		if st.Verdict != Stale {
			t.Errorf("a claimed request started: %+v", st)
		}
	}
	for _, m := range []batch.Model{testModel, otherName} {
		if claims, err := s.Claim(t.Context(), m, []Quota{{Batch: id, N: 5}}); err != nil || len(claims) != 0 {
			t.Errorf("%d claimed, %v", len(claims), err)
		}
	}
	// What is released for another attempt is not called again.
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: calls[5], Retry: true, Due: true, Reason: batch.Timeout}}); err != nil {
		t.Fatal(err)
	}
	if got := endOverBudget(t, s); len(got) != 1 || got[0] != (EndedBatch{Batch: id, Requests: 1}) {
		t.Errorf("ended %+v of what was released", got)
	}
	flush(t, s, d, id, using(100, calls[6], calls[7]))
	b = getBatch(t, s, id)
	if b.Status != batch.StatusCancelled || b.Counts.Completed != 6 || b.Counts.Canceled != 33 || b.Counts.Failed != 1 {
		t.Errorf("%+v", b)
	}
	check(t, s)
	reasons := make(map[batch.Reason]int)
	for from := int64(0); ; {
		page := page(t, s, id, from, 7)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			reasons[r.Reason]++
		}
		from = page[len(page)-1].Seq + 1
	}
	if want := map[batch.Reason]int{"": 6, batch.Timeout: 1, batch.BudgetExceeded: 33}; !maps.Equal(reasons, want) {
		t.Errorf("reasons are %v, want %v", reasons, want)
	}
	if c := counts(t, s, other); c.Pending != 3 {
		t.Errorf("another batch: %+v", c)
	}
}

// A batch that uses its budget up with its last requests has completed.
func TestBudgetSpentAtTheEnd(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	last := budgeted(t, s, 3, batch.Budget{Tokens: 300})
	if flush(t, s, d, last, using(100, started(t, s, d, last, 3)...)) {
		t.Error("spent with the last request")
	}
	if b := getBatch(t, s, last); b.Status != batch.StatusCompleted || !b.BudgetExceededAt.IsZero() {
		t.Errorf("%+v", b)
	}
	inFlight := budgeted(t, s, 3, batch.Budget{Tokens: 200})
	calls := started(t, s, d, inFlight, 3)
	if !flush(t, s, d, inFlight, using(100, calls[:2]...)) {
		t.Error("not spent")
	}
	if got := endOverBudget(t, s); len(got) != 0 {
		t.Errorf("ended %+v of what is in flight", got)
	}
	flush(t, s, d, inFlight, using(100, calls[2]))
	if b := getBatch(t, s, inFlight); b.Status != batch.StatusCompleted || b.BudgetExceededAt.IsZero() {
		t.Errorf("%+v", b)
	}
	check(t, s)
}

// Money is counted by the price of the model that was called, exactly.
func TestBudgetOfMoney(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	budget := batch.Budget{Cost: 1001, Prices: batch.Prices{
		testModel: {Prompt: 1_000_000, Completion: 10_000_000}, otherName: {Prompt: 333_333}, "": {Prompt: 1_000_000, Completion: 10_000_000},
	}}
	id := budgeted(t, s, 20, budget, testModel)
	calls := started(t, s, d, id, 6)
	sqlExec(t, s, `UPDATE requests SET routed_model = $2 WHERE batch_id = $1 AND line = 2`, [16]byte(id), string(otherName))
	sqlExec(t, s, `UPDATE requests SET routed_model = 'unknown' WHERE batch_id = $1 AND line = 3`, [16]byte(id))
	use := func(call Delivery, prompt, completion int64) []Completion {
		e := completed(call)
		e.Usage = batch.Usage{PromptTokens: prompt, CompletionTokens: completion}
		return []Completion{e}
	}
	for i, c := range []struct {
		completion []Completion
		cost       batch.Money
		spent      bool
	}{
		{use(calls[0], 100, 40), 500, false},
		{use(calls[1], 3, 1000), 501, false}, // 0.999999 millionths, rounded up for people only
		{use(calls[2], 100, 40), 1001, false},
		{use(calls[3], 0, 0), 1001, false},
		{use(calls[4], 1, 0), 1002, true},
	} {
		if spent := flush(t, s, d, id, c.completion); spent != c.spent {
			t.Errorf("%d: spent is %t", i, spent)
		}
		b := getBatch(t, s, id)
		if got := b.Bill().Cost(); got != c.cost {
			t.Errorf("%d: it cost %d, want %d", i, got, c.cost)
		}
	}
}

// Flushes that meet at a batch neither wait for one another for ever, nor overlook
// together that its budget is spent: exactly one of them says so.
func TestBudgetWithConcurrentFlushes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	const n = 40
	var ids []batch.ID
	calls := make(map[batch.ID][]Delivery)
	for range 4 {
		id := budgeted(t, s, n+5, batch.Budget{Tokens: n * 10})
		ids, calls[id] = append(ids, id), started(t, s, d, id, n)
	}
	var flushes sync.WaitGroup
	var mu sync.Mutex
	spent := make(map[batch.ID]int)
	for i := range n {
		flushes.Go(func() {
			order := slices.Clone(ids)
			if i%2 == 0 {
				slices.Reverse(order)
			}
			var all []Completion
			for _, id := range order {
				all = append(all, using(10, calls[id][i])...)
			}
			written, err := s.Finish(t.Context(), d, all, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, id := range ids {
				if written[batch.RequestID{Batch: id}] {
					spent[id]++
				}
			}
		})
		if i%8 == 0 {
			flushes.Go(func() { _, _ = s.EndOverBudget(t.Context(), 100) })
		}
	}
	flushes.Wait()
	for _, id := range ids {
		if spent[id] != 1 {
			t.Errorf("%d flushes spent the budget of %s", spent[id], id)
		}
	}
	endOverBudget(t, s)
	for _, id := range ids {
		if b := getBatch(t, s, id); b.Status != batch.StatusCancelled || b.Counts.Completed != n || b.Counts.Canceled != 5 {
			t.Errorf("%+v", b)
		}
	}
	check(t, s)
}

// A process that dies after the commit which spent a budget leaves the rest to the
// next look, and one that dies between slices as well.
func TestBudgetIsTakenUpAfterACrash(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.slice = 5
	d := newDaemon(t, s)
	id := budgeted(t, s, 30, batch.Budget{Tokens: 10})
	calls := started(t, s, d, id, 2)
	claimed(t, s, id, 20)
	flush(t, s, d, id, using(10, calls[0]))
	// The first slice, and no more.
	err := s.inTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockBatch(ctx, tx, id); err != nil {
			return err
		}
		_, err := s.finishSlice(ctx, tx, id, asOverBudget)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s)
	if c := counts(t, s, id); c.Canceled != 13 || c.Pending != 0 || c.InProgress != 16 {
		t.Errorf("after a slice: %+v", c)
	}
	if got := endOverBudget(t, s); len(got) != 1 || got[0] != (EndedBatch{Batch: id, Requests: 15}) {
		t.Errorf("ended %+v", got)
	}
	flush(t, s, d, id, using(10, calls[1]))
	if b := getBatch(t, s, id); b.Status != batch.StatusCancelled || b.Counts.Completed != 2 {
		t.Errorf("%+v", b)
	}
	check(t, s)
}

// A rerun would be called beyond the budget: it is refused until that is raised.
func TestRerunOfASpentBudget(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := budgeted(t, s, 20, batch.Budget{Tokens: 100})
	calls := started(t, s, d, id, 3)
	flush(t, s, d, id, using(50, calls[0], calls[1]))
	endOverBudget(t, s)
	if _, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Canceled); err == nil {
		t.Error("rerun while its last call is in flight")
	}
	flush(t, s, d, id, []Completion{failed(calls[2])})
	ended := getBatch(t, s, id)
	_, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Canceled, batch.Failed)
	wantErr(t, err, batch.ErrBudgetSpent)
	_, err = s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{20})
	wantErr(t, err, batch.ErrBudgetSpent)

	priority := 1
	_, err = s.ChangeBatch(t.Context(), id, BatchChange{Priority: &priority, Budget: &batch.Budget{Tokens: 200}})
	wantErr(t, err, batch.ErrBatchFinished)
	if b := getBatch(t, s, id); b.Budget.Tokens != 100 {
		t.Errorf("half of a change was made: %+v", b)
	}
	if setNewBudget(t, s, id, batch.Budget{Tokens: 150}) {
		t.Error("a batch that has ended is to be ended")
	}
	if b := getBatch(t, s, id); b.Status != batch.StatusCancelled || !b.BudgetExceededAt.Equal(ended.BudgetExceededAt) {
		t.Errorf("%+v", b)
	}
	if n, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Canceled); err != nil || n != 17 {
		t.Fatalf("%d rerun, %v", n, err)
	}
	b := getBatch(t, s, id)
	if b.Status != batch.StatusInProgress || !b.BudgetExceededAt.IsZero() || b.Bill().Tokens() != 100 {
		t.Errorf("%+v", b)
	}
	check(t, s)
	if got := endOverBudget(t, s); len(got) != 0 {
		t.Errorf("ended %+v", got)
	}
	if !flush(t, s, d, id, using(50, started(t, s, d, id, 1)...)) {
		t.Error("not spent again")
	}
	if got := endOverBudget(t, s); len(got) != 1 || !got[0].Finished || got[0].Requests != 16 {
		t.Errorf("ended %+v", got)
	}
	check(t, s)
	setNewBudget(t, s, id, batch.Budget{})
	if n, err := s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{19, 20}); err != nil || len(n.Changed) != 2 {
		t.Errorf("%+v rerun without a budget, %v", n, err)
	}
	check(t, s)
}

// A budget below what is used is spent at once, and one that is raised in time ends
// nothing.
func TestChangeOfABudget(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 10)
	calls := started(t, s, d, id, 3)
	flush(t, s, d, id, using(50, calls[0]))
	if !setNewBudget(t, s, id, batch.Budget{Tokens: 50}) {
		t.Error("not spent")
	}
	if setNewBudget(t, s, id, batch.Budget{Tokens: 51}) || !getBatch(t, s, id).BudgetExceededAt.IsZero() {
		t.Error("spent after it was raised")
	}
	if got := endOverBudget(t, s); len(got) != 0 {
		t.Errorf("ended %+v", got)
	}
	if !flush(t, s, d, id, using(50, calls[1])) {
		t.Error("not spent")
	}
	if setNewBudget(t, s, id, batch.Budget{}) || !getBatch(t, s, id).Budget.IsZero() {
		t.Error("there is a budget after it was removed")
	}
	if got := endOverBudget(t, s); len(got) != 0 {
		t.Errorf("ended %+v", got)
	}
	// A cancel takes what is in flight too, whatever of the budget.
	setNewBudget(t, s, id, batch.Budget{Tokens: 1})
	if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Status != batch.StatusCancelled || b.Counts.Canceled != 8 {
		t.Errorf("%+v, %v", b, err)
	}
	for _, r := range page(t, s, id, 3, 10) {
		if r.Reason != batch.BatchCancelled {
			t.Errorf("line %d: %s", r.ID.Line, r.Reason)
		}
	}
	check(t, s)
	_, err := s.ChangeBatch(t.Context(), batch.ID{1}, BatchChange{Budget: &batch.Budget{Tokens: 1}})
	wantErr(t, err, batch.ErrNotFound)
}

func TestCreateWithABudget(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	want := batch.Budget{Tokens: 7, Cost: 8, Prices: batch.Prices{testModel: {Prompt: 1, Completion: 2}, "": {Prompt: 1, Completion: 2}}}
	id, _, err := s.CreateBatch(t.Context(), NewBatch{
		File: newFile(t, s, templates(1, 2, testModel)), CompletionWindow: time.Hour, WindowText: "1h", CreatedBy: creator, Budget: want,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := getBatch(t, s, id).Budget; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The look at every interval reads no table whole, and a flush finds a budget by keys.
func TestBudgetPlans(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := budgeted(t, s, 10, batch.Budget{Tokens: 10})
	for name, plan := range map[string]*node{
		"look": explain(t, s, "", exceededSQL, 0, 100), "spent": explain(t, s, "", isSpentSQL, [16]byte(id)),
	} {
		if scans := plan.wholeScans(); len(scans) > 0 {
			t.Errorf("%s: %v", name, scans)
		}
	}
	plan := explain(t, s, "", exceededSQL, 0, 100)
	indexed := false
	plan.walk(func(n *node) { indexed = indexed || n.Index == "batches_budget_exceeded" })
	if !indexed {
		t.Error("batches are not found by their own index")
	}
}

// Only batches in progress that have a budget count, each for the bounds that it has;
// no other batch is looked at, however many there are.
func TestOpenBudgets(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	prices := batch.Prices{testModel: {Prompt: 2_000_000, Completion: 5_000_000}, "": {Prompt: 2_000_000, Completion: 5_000_000}}
	tokens := budgeted(t, s, 10, batch.Budget{Tokens: 100})
	both := budgeted(t, s, 10, batch.Budget{Tokens: 1000, Cost: 2_500_000, Prices: prices})
	ended, none := budgeted(t, s, 1, batch.Budget{Tokens: 50}), newBatch(t, s, 10)
	for _, id := range []batch.ID{tokens, both, ended, none} {
		flush(t, s, d, id, using(30, started(t, s, d, id, 1)[0]))
	}
	sqlExec(t, s, `INSERT INTO batches (id, created_at, file_id, created_by, endpoint, completion_window, expires_at, total)
SELECT gen_random_uuid(), created_at, file_id, created_by, endpoint, completion_window, expires_at, 1 FROM batches, generate_series(1, 2000) WHERE id = $1`, [16]byte(none))
	sqlExec(t, s, `VACUUM ANALYZE batches, batch_usage`)
	got, err := s.OpenBudgets(t.Context())
	want := OpenBudgets{Tokens: BudgetUse{1100, 60}, Cost: BudgetUse{2.5, 0.00012}}
	if err != nil || got != want {
		t.Errorf("open budgets are %+v, %v, want %+v", got, err, want)
	}
	plan := explain(t, s, ", ANALYZE", openBudgetsSQL)
	if scans := plan.wholeScans(); len(scans) > 0 || plan.touched() > 50 {
		t.Errorf("%v, %.0f rows are read for two budgets", scans, plan.touched())
	}
}
