package dispatch

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// site is a simulated model: a backlog, and what it serves in simulated time.
type site struct {
	t         failer
	scheduler scheduler
	now       time.Time
	rate      float64 // requests a second
	claim     int     // requests in a claim
	batches   []*postgres.Cursor
	served    map[string]int // by owner
	done      map[batch.ID]time.Time
	last      map[string]int // the claim in which an owner was last served, or began to wait
	longest   map[string]int // claims that an owner with work waited for
	claims    int
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newSite(t failer, rate float64, claim int) *site {
	return &site{
		t: t, now: time.Unix(1e9, 0), rate: rate, claim: claim, served: make(map[string]int), done: make(map[batch.ID]time.Time),
		last: make(map[string]int), longest: make(map[string]int),
	}
}

// add begins a batch.
func (s *site) add(owner string, weight float64, requests int, window time.Duration) batch.ID {
	var id batch.ID
	binary.BigEndian.PutUint64(id[:], uint64(len(s.batches)+1))
	s.batches = append(s.batches, &postgres.Cursor{
		Batch: id, Remaining: requests, ExpiresAt: s.now.Add(window), CreatedAt: s.now, CreatedBy: owner, Weight: weight,
	})
	if _, waits := s.last[owner]; !waits {
		s.last[owner] = s.claims
	}
	return id
}

// run serves for the given time, and reads the backlog anew every second.
func (s *site) run(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	for s.now.Before(end) {
		var list []postgres.Cursor
		for _, b := range s.batches {
			if b.Left = b.ExpiresAt.Sub(s.now); b.Remaining > 0 {
				list = append(list, *b)
			}
		}
		slices.SortFunc(list, postgres.Cursor.Compare)
		s.scheduler.load(list, s.rate)
		for range max(int(s.rate)/s.claim, 1) {
			s.take()
		}
		s.now = s.now.Add(max(time.Second, time.Duration(float64(s.claim)/s.rate*float64(time.Second))))
	}
}

func (s *site) take() {
	s.t.Helper()
	left := 0
	for _, b := range s.batches {
		left += b.Remaining
	}
	quotas, asked := s.scheduler.take(s.claim)
	if asked != min(s.claim, left) {
		s.t.Fatalf("%d are asked for, want %d of %d", asked, s.claim, left)
	}
	s.claims++
	sum := 0
	seen := make(map[batch.ID]bool)
	waiting := make(map[string]bool)
	for _, q := range quotas {
		b := s.batches[binary.BigEndian.Uint64(q.Batch[:])-1]
		if q.N < 1 || q.N > b.Remaining || seen[q.Batch] {
			s.t.Fatalf("quota is %+v of %+v", q, b)
		}
		seen[q.Batch] = true
		sum += q.N
		b.Remaining -= q.N
		s.served[b.CreatedBy] += q.N
		s.last[b.CreatedBy] = s.claims
		if b.Remaining == 0 {
			s.done[b.Batch] = s.now
		}
	}
	if sum != asked {
		s.t.Fatalf("the quotas sum to %d, not %d", sum, asked)
	}
	for _, b := range s.batches {
		waiting[b.CreatedBy] = waiting[b.CreatedBy] || b.Remaining > 0
	}
	for owner, waits := range waiting {
		if !waits {
			delete(s.last, owner)
			continue
		}
		s.longest[owner] = max(s.longest[owner], s.claims-s.last[owner])
	}
}

// Of one owner, batches come by priority first; another owner's share is not touched
// by that, and an automatic retry goes first all the same.
func TestPolicyOrdersTheBatchesOfAnOwnerByPriority(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	cursor := func(id byte, owner string, kind postgres.Kind, priority int, expires time.Duration) postgres.Cursor {
		return postgres.Cursor{Batch: batch.ID{id}, Kind: kind, Remaining: 4, Left: 24 * time.Hour, ExpiresAt: now.Add(expires), CreatedAt: now, CreatedBy: owner, Priority: priority, Weight: 1}
	}
	var p scheduler
	p.load([]postgres.Cursor{
		cursor(1, "alice", postgres.Fresh, -1, time.Hour), cursor(2, "alice", postgres.Fresh, 0, 2*time.Hour), cursor(3, "alice", postgres.Fresh, 100, 3*time.Hour),
		cursor(4, "alice", postgres.DueRetry, -100, 4*time.Hour), cursor(5, "alice", postgres.DueRerun, 7, 5*time.Hour), cursor(6, "bob", postgres.Fresh, -100, 6*time.Hour),
	}, 0)
	quotas, _ := p.take(8)
	taken := make(map[byte]int)
	for _, q := range quotas {
		taken[q.Batch[0]] += q.N
	}
	if diff := cmp.Diff(map[byte]int{4: 4, 6: 4}, taken); diff != "" {
		t.Errorf("of the first 8 (-want +got):\n%s", diff)
	}
	var order []byte
	for !p.empty() {
		quotas, _ := p.take(4)
		order = append(order, quotas[0].Batch[0])
	}
	if want := []byte{3, 5, 2, 1}; !slices.Equal(order, want) {
		t.Errorf("then batches %v, want %v", order, want)
	}
}

// Of one owner, batches come by deadline, then by age.
func TestPolicyOrdersTheBatchesOfAUser(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	cursor := func(id byte, expires, created time.Duration) postgres.Cursor {
		return postgres.Cursor{Batch: batch.ID{id}, Remaining: 2, Left: 24 * time.Hour, ExpiresAt: now.Add(expires), CreatedAt: now.Add(created), CreatedBy: "alice", Weight: 1}
	}
	list := []postgres.Cursor{cursor(4, 2*time.Hour, 0), cursor(2, time.Hour, 0), cursor(3, time.Hour, time.Minute), cursor(1, time.Hour, 0)}
	slices.SortFunc(list, postgres.Cursor.Compare)
	var p scheduler
	p.load(list, 0)
	quotas, asked := p.take(7)
	want := []postgres.Quota{{Batch: batch.ID{1}, N: 2}, {Batch: batch.ID{2}, N: 2}, {Batch: batch.ID{3}, N: 2}, {Batch: batch.ID{4}, N: 1}}
	if diff := cmp.Diff(want, quotas); diff != "" || asked != 7 {
		t.Errorf("%d asked for (-want +got):\n%s", asked, diff)
	}
	if quotas, asked = p.take(7); asked != 1 || !p.empty() || len(quotas) != 1 {
		t.Errorf("then %+v, %d asked for", quotas, asked)
	}
	if quotas, asked = p.take(7); asked != 0 || len(quotas) != 0 {
		t.Errorf("of nothing %+v, %d asked for", quotas, asked)
	}
}

// An owner with work all the time gets the share of their weight, however many
// batches they have.
func TestSharesConvergeToWeights(t *testing.T) {
	t.Parallel()
	for _, claim := range []int{1, 7, 100} {
		t.Run(fmt.Sprintf("claims of %d", claim), func(t *testing.T) {
			t.Parallel()
			weights := map[string]float64{"alice": 1, "bob": 2, "carol": 5, "dave": 0.5, "erin": 1}
			s := newSite(t, 100, claim)
			total := 0.0
			for owner, w := range weights {
				total += w
				batches := 1
				if owner == "alice" {
					batches = 50 // which gain her nothing
				}
				for range batches {
					s.add(owner, w, 100_000/batches, 1000*time.Hour)
				}
			}
			s.run(10 * time.Minute)
			served := 0
			for _, n := range s.served {
				served += n
			}
			for owner, w := range weights {
				got, want := float64(s.served[owner])/float64(served), w/total
				if math.Abs(got-want) > 0.03*want {
					t.Errorf("%s got %.4f of all, want %.4f", owner, got, want)
				}
			}
		})
	}
}

// An owner who used a model alone owes nothing for it, and one who did not use it
// has saved nothing up.
func TestThePastCountsForLittle(t *testing.T) {
	t.Parallel()
	s := newSite(t, 100, 10)
	s.add("early", 1, 1_000_000, 1000*time.Hour)
	s.run(time.Hour)
	s.add("late", 1, 1_000_000, 1000*time.Hour)
	before := s.served["early"]
	s.run(time.Minute)
	early, late := s.served["early"]-before, s.served["late"]
	if math.Abs(float64(early-late)) > 0.03*float64(late) {
		t.Errorf("early got %d and late %d, want the same", early, late)
	}
}

// A batch that would be late by its owner's share is not, though the owner has one part
// in a hundred, and the others still get on.
func TestUrgentBatchMeetsItsDeadline(t *testing.T) {
	t.Parallel()
	s := newSite(t, 100, 10)
	for i := range 99 {
		s.add(fmt.Sprintf("owner %d", i), 1, 100_000, 1000*time.Hour)
	}
	s.run(time.Minute)
	window := 10 * time.Minute
	urgent := s.add("late", 1, 30_000, window) // half of all that is served till then
	begun, others := s.now, len(s.served)
	s.run(window)
	if at, ok := s.done[urgent]; !ok || at.Sub(begun) > window {
		t.Errorf("it has %d requests left at its deadline", s.batches[len(s.batches)-1].Remaining)
	}
	for i := range others {
		owner := fmt.Sprintf("owner %d", i)
		if s.longest[owner] > 150 { // 100 owners, 2.5 in a claim, a quarter of it while a batch is urgent
			t.Errorf("%s waited for %d claims", owner, s.longest[owner])
		}
	}
	// They pay for it, and not for long.
	s.add("late", 1, 100_000, 1000*time.Hour)
	before := s.served["late"]
	s.run(20 * time.Minute)
	if got, part := s.served["late"]-before, 20*60*100/100; got < part-maxDebt-60 || got > part+60 {
		t.Errorf("afterwards they got %d, want their share of %d less at most %d", got, part, maxDebt)
	}
}

// Batches that are in time at their owner's share wait for their turn, and one
// that has expired gains nothing.
func TestNotUrgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, 100, 10)
	s.add("relaxed", 1, 100_000, 1000*time.Hour)
	s.add("in time", 1, 10_000, time.Hour)
	s.add("expired", 1, 100_000, -time.Second)
	s.run(time.Minute)
	for owner, n := range s.served {
		if math.Abs(float64(n)-2000) > 60 {
			t.Errorf("%s got %d, want 2000", owner, n)
		}
	}
}

// Whatever comes, every owner with work is served within a bounded time, and nothing
// is left undone while there is room.
func TestNobodyStarves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const owners = 8
		s := newSite(t, rapid.SampledFrom([]float64{1, 20, 200}).Draw(t, "rate"), rapid.SampledFrom([]int{1, 10, 60}).Draw(t, "claim"))
		weights := rapid.SliceOfN(rapid.SampledFrom([]float64{0.1, 0.5, 1, 3, 10}), owners, owners).Draw(t, "weights")
		sum, least := 0.0, math.Inf(1)
		for _, w := range weights {
			sum, least = sum+w, min(least, w)
		}
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			for range rapid.IntRange(0, 4).Draw(t, "batches") {
				u := rapid.IntRange(0, owners-1).Draw(t, "owner")
				window := rapid.SampledFrom([]time.Duration{-time.Minute, time.Second, time.Minute, 10 * time.Minute, time.Hour, 100 * time.Hour}).Draw(t, "window")
				s.add(fmt.Sprint("owner ", u), weights[u], rapid.SampledFrom([]int{1, 30, 1000, 30_000}).Draw(t, "requests"), window)
			}
			s.run(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second)
		}
		// An owner's debt, paid off at their share of what is shared fairly, and a turn of each.
		chunk := max(s.claim/rounds, 1)
		turn := float64(max(maxDebt, chunk))/least*sum + float64(2*chunk*owners)
		most := int(turn/(1-urgentPart)/float64(s.claim)) + owners + 2
		for owner, waited := range s.longest {
			if waited > most {
				t.Fatalf("%s waited for %d claims, want at most %d", owner, waited, most)
			}
		}
	})
}

// The same input gives the same choices.
func TestPolicyIsDeterministic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var list []postgres.Cursor
		for i, n := range rapid.SliceOfN(rapid.IntRange(1, 50), 1, 12).Draw(t, "remaining") {
			left := time.Duration(rapid.IntRange(-1, 200).Draw(t, "minutes")) * time.Minute
			list = append(list, postgres.Cursor{
				Batch: batch.ID{byte(i)}, Remaining: n, Left: left, ExpiresAt: time.Unix(1e9, 0).Add(left),
				CreatedBy: fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "owner")), Weight: 1,
			})
		}
		slices.SortFunc(list, postgres.Cursor.Compare)
		var one, other scheduler
		one.load(list, 5)
		other.load(list, 5)
		for !one.empty() {
			n := rapid.IntRange(1, 40).Draw(t, "n")
			a, _ := one.take(n)
			b, _ := other.take(n)
			if diff := cmp.Diff(a, b); diff != "" {
				t.Fatalf("choices differ:\n%s", diff)
			}
		}
	})
}

// What a scheduler remembers does not grow with the owners that have come and gone.
func TestPolicyForgets(t *testing.T) {
	t.Parallel()
	s := newSite(t, 100, 10)
	s.add("always", 1, 1_000_000, 1000*time.Hour)
	for i := range 300 {
		s.add(fmt.Sprintf("owner %d", i), 1, 20, time.Minute)
		s.run(time.Second)
	}
	s.run(time.Minute)
	if n := len(s.scheduler.tags); n > 10 {
		t.Errorf("%d owners are remembered", n)
	}
}

func BenchmarkPolicy(b *testing.B) {
	var list []postgres.Cursor
	for i := range cursorsForBench {
		var id batch.ID
		binary.BigEndian.PutUint64(id[:], uint64(i))
		list = append(list, postgres.Cursor{Batch: id, Remaining: 1_000_000, Left: time.Hour, ExpiresAt: time.Unix(1e9, 0), CreatedBy: fmt.Sprint(i % 200), Weight: 1})
	}
	var p scheduler
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			p.load(list, 100)
		}
	})
	b.Run("take", func(b *testing.B) {
		for b.Loop() {
			p.take(100)
		}
	})
}

const cursorsForBench = 1024
