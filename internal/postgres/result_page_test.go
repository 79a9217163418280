package postgres

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

func page(t testing.TB, s *Store, id batch.ID, from int64, n int) []batch.Result {
	t.Helper()
	out, err := s.Results(t.Context(), id, from, n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestResultsByRows(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 10)
	deliveries := started(t, s, d, id, 10)
	if got := page(t, s, id, 0, 10); len(got) != 0 {
		t.Errorf("%d results before there are any", len(got))
	}
	slices.Reverse(deliveries)
	for _, delivery := range deliveries[:7] {
		finish(t, s, d, completed(delivery))
	}
	for _, test := range []struct {
		from  int64
		n     int
		seq   int64
		lines []int32
	}{
		{0, 3, 0, []int32{10, 9, 8}},
		{3, 3, 3, []int32{7, 6, 5}},
		{6, 3, 6, []int32{4}},
		{7, 3, 0, nil},
		{100, 3, 0, nil},
		{2, 1, 2, []int32{8}},
		{0, 0, 0, nil},
	} {
		got := page(t, s, id, test.from, test.n)
		var lines []int32
		for i, r := range got {
			if lines = append(lines, r.ID.Line); r.Seq != test.seq+int64(i) {
				t.Errorf("from %d: seq %d at %d", test.from, r.Seq, i)
			}
		}
		if !slices.Equal(lines, test.lines) {
			t.Errorf("from %d: lines %v, want %v", test.from, lines, test.lines)
		}
	}
	if got := page(t, s, batch.ID{1}, 0, 10); len(got) != 0 {
		t.Errorf("%d results of an unknown batch", len(got))
	}
}

func TestResultsByBytes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 6)
	for i, mib := range []int{6, 6, 6, 0, 20, 6} { // the limit is 16 MiB
		e := completed(started(t, s, d, id, 1)[0])
		if e.Body = make([]byte, mib<<20); mib == 0 {
			e.Body = nil
		}
		if finish(t, s, d, e) != 1 {
			t.Fatalf("result %d was not written", i)
		}
	}
	var pages []int
	for from := int64(0); from < 6; {
		got := page(t, s, id, from, 100)
		if len(got) == 0 {
			t.Fatalf("an empty page at %d", from)
		}
		pages, from = append(pages, len(got)), from+int64(len(got))
	}
	if want := []int{3, 2, 1}; !slices.Equal(pages, want) {
		t.Errorf("pages of %v results, want %v", pages, want)
	}
}

// Readers follow while writers commit: they see every result once, in order,
// and counts that always sum to the total.
func TestReadersFollowWriters(t *testing.T) {
	t.Parallel()
	const batches, lines, writers = 2, 600, 6
	s := newStore(t)
	file := newFile(t, s, templates(1, lines, testModel))
	ids := make([]batch.ID, batches)
	var all []Delivery
	d := newDaemon(t, s)
	for i := range ids {
		ids[i] = batchOf(t, s, file)
		all = append(all, started(t, s, d, ids[i], lines)...)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var wg sync.WaitGroup
	for mine := range slices.Chunk(all, len(all)/writers) {
		wg.Go(func() {
			for len(mine) > 0 {
				n := min(1+rand.IntN(25), len(mine))
				if _, err := s.Finish(t.Context(), d, endings(completed, mine[:n]), nil); err != nil {
					t.Error(err)
					return
				}
				mine = mine[n:]
			}
		})
	}
	for _, id := range ids {
		wg.Go(func() {
			seen := make(map[int32]bool)
			for next := int64(0); next < lines && !t.Failed(); {
				b, err := s.GetBatch(t.Context(), id, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if c := b.Counts; c.Done()+c.Pending+c.InProgress != lines || c.InProgress < 0 || c.Done() < next {
					t.Errorf("%+v after %d results", c, next)
				}
				if b.Status.Terminal() != (b.Counts.Done() == lines) {
					t.Errorf("%s with %d done", b.Status, b.Counts.Done())
				}
				got, err := s.Results(t.Context(), id, next, 1+rand.IntN(50))
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range got {
					if r.Seq != next || seen[r.ID.Line] {
						t.Errorf("line %d at seq %d, want seq %d; seen: %t", r.ID.Line, r.Seq, next, seen[r.ID.Line])
						return
					}
					seen[r.ID.Line] = true
					next++
				}
				if err := checker.Check(t.Context(), s.pool, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	check(t, s)
}
