package slots

import (
	stdcmp "cmp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestShare(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit int
		// By daemon a, b, c.
		holders []Holder
		want    []int
	}{
		"nobody":                         {limit: 5},
		"one gets what it wants":         {5, []Holder{{Want: 3}}, []int{3}},
		"one gets no more than there is": {5, []Holder{{Want: 9}}, []int{5}},
		"even":                           {9, []Holder{{Want: 9}, {Want: 9}, {Want: 9}}, []int{3, 3, 3}},
		"what one leaves":                {9, []Holder{{Want: 1}, {Want: 9}, {Want: 9}}, []int{1, 4, 4}},
		"the rest stays where it is":     {10, []Holder{{Want: 9}, {Want: 9}, {Held: 4, Want: 9}}, []int{3, 3, 4}},
		"the rest goes to the first":     {10, []Holder{{Want: 9}, {Want: 9}, {Want: 9}}, []int{4, 3, 3}},
		"fewer slots than daemons":       {1, []Holder{{Want: 9}, {Held: 1, Want: 9}, {Want: 9}}, []int{0, 1, 0}},
		"nothing wanted":                 {9, []Holder{{Held: 4}, {Held: 5}}, []int{0, 0}},
		"no slots":                       {0, []Holder{{Held: 2, Want: 2}, {Want: 1}}, []int{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := entryOf(tt.limit, tt.holders)
			var got []int
			for i := range tt.holders {
				got = append(got, e.share(id(i)))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("shares (-want +got):\n%s", diff)
			}
			if got := e.share("stranger"); got != 0 {
				t.Errorf("a stranger's share is %d", got)
			}
		})
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit       int
		mine        Holder
		others      []Holder
		want, inUse int
		held        int
		target      int // 0: the same as held
	}{
		"takes what is free":             {limit: 8, want: 3, held: 3},
		"takes all with a backlog":       {limit: 8, want: 20, held: 8},
		"takes what others left free":    {limit: 8, others: []Holder{{Held: 6, Want: 8}}, want: 8, held: 2},
		"waits for others to lower":      {limit: 8, others: []Holder{{Held: 8, Want: 8}}, want: 8, held: 0},
		"gives to one who waits":         {limit: 8, mine: Holder{8, 8}, others: []Holder{{Want: 8}}, want: 8, held: 4},
		"not below the calls in flight":  {limit: 8, mine: Holder{8, 8}, others: []Holder{{Want: 8}}, want: 8, inUse: 6, held: 6, target: 4},
		"lower limit":                    {limit: 3, mine: Holder{8, 8}, want: 8, held: 3},
		"lower limit, calls in flight":   {limit: 3, mine: Holder{8, 8}, want: 8, inUse: 7, held: 7, target: 3},
		"releases what it does not want": {limit: 8, mine: Holder{5, 5}, want: 2, inUse: 1, held: 2},
		"more calls than it holds":       {limit: 8, mine: Holder{2, 5}, others: []Holder{{Held: 6, Want: 8}}, want: 1, inUse: 4, held: 2, target: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := entryOf(tt.limit, append([]Holder{tt.mine}, tt.others...))
			got, target := e.settle(id(0), tt.want, tt.inUse)
			if diff := cmp.Diff(Holder{Held: tt.held, Want: tt.want}, got); diff != "" {
				t.Errorf("settle (-want +got):\n%s", diff)
			}
			if want := stdcmp.Or(tt.target, tt.held); target != want {
				t.Errorf("target = %d, want %d", target, want)
			}
		})
	}
}

// Shares are max-min fair: nobody could have more without taking from one who
// has no more than that.
func TestShareIsFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry(t)
		shares, wants := make([]int, 0, len(e.Holders)), make([]int, 0, len(e.Holders))
		for i := range len(e.Holders) {
			shares = append(shares, e.share(id(i)))
			wants = append(wants, e.Holders[id(i)].Want)
		}
		checkFair(t, e.Limit, wants, shares)
	})
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry(t)
		e.Model = "meta-llama/Llama-3.1:8b \"\u00e9\""
		got, err := decode(e.encode())
		if err != nil {
			t.Fatal(err)
		}
		sameTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
		if diff := cmp.Diff(e, got, sameTime); diff != "" {
			t.Fatalf("decode(encode) (-want +got):\n%s", diff)
		}
	})
	if _, err := decode([]byte("{")); err == nil {
		t.Error("decode accepts what is no JSON")
	}
}

func TestWithLeavesTheOriginalAlone(t *testing.T) {
	t.Parallel()
	e := entryOf(3, []Holder{{Held: 1, Want: 2}})
	e.with(id(0), Holder{})
	e.with(id(1), Holder{Held: 1})
	if diff := cmp.Diff(entryOf(3, []Holder{{Held: 1, Want: 2}}), e); diff != "" {
		t.Errorf("with changed its receiver (-want +got):\n%s", diff)
	}
}

// checkFair checks shares by the definition of max-min fairness, not by an
// algorithm that finds them.
func checkFair(t failer, limit int, wants, got []int) {
	t.Helper()
	sum, wanted := 0, 0
	for i := range got {
		sum += got[i]
		wanted += wants[i]
		if got[i] > wants[i] {
			t.Fatalf("daemon %d has %d and wants %d", i, got[i], wants[i])
		}
	}
	if sum != min(limit, wanted) {
		t.Fatalf("wants %v, limit %d: %v shares out %d slots, want %d", wants, limit, got, sum, min(limit, wanted))
	}
	for i := range got {
		for j := range got {
			if got[i] < wants[i] && got[j] > got[i]+1 {
				t.Fatalf("wants %v, limit %d: %v leaves daemon %d short of what %d has", wants, limit, got, i, j)
			}
		}
	}
	for i := range got {
		if limit >= len(wants) && wants[i] > 0 && got[i] == 0 {
			t.Fatalf("wants %v, limit %d: %v lets daemon %d starve", wants, limit, got, i)
		}
	}
}

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func genEntry(t *rapid.T) Entry {
	holders := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Holder {
		return Holder{Held: rapid.IntRange(0, 12).Draw(t, "held"), Want: rapid.IntRange(0, 20).Draw(t, "want")}
	}).Filter(func(h Holder) bool { return h != Holder{} }), 0, 6).Draw(t, "holders")
	return entryOf(rapid.IntRange(0, 30).Draw(t, "limit"), holders)
}

func entryOf(limit int, holders []Holder) Entry {
	e := Entry{Model: "m", Limit: limit}
	for i, h := range holders {
		e = e.with(id(i), h)
	}
	return e
}

// id is the id of daemon i in tests.
func id(i int) string { return string(rune('a' + i)) }
