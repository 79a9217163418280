package postgres

import (
	"bytes"
	"cmp"
	"slices"

	"fusillade/internal/batch"
)

// keys are the columns that fence a write, as arrays.
//
// The statements that take them first look up each row's place (ctid) by its
// key, in a LATERAL with LIMIT 1, and then write at that place. Written as a
// plain join, Postgres turns it around when `requests` was vacuumed while it
// was empty, and compares every live request with every key: 256 starts took
// 20 ms with 20,000 live requests, and 1,300 ms when so planned. LIMIT
// cardinality cuts nothing off; it makes the planner expect few rows, so that
// going by place always looks cheapest. The place of a row that the snapshot
// sees belongs to no other row until the snapshot ends.
type keys struct {
	batches                   [][16]byte
	lines, claims, deliveries []int32
}

func newKeys(n int) *keys {
	ints := make([]int32, 3*n)
	return &keys{batches: make([][16]byte, 0, n), lines: ints[0:0:n], claims: ints[n : n : 2*n], deliveries: ints[2*n : 2*n : 3*n]}
}

func (k *keys) add(id batch.RequestID, claim, delivery int) {
	k.batches = append(k.batches, [16]byte(id.Batch))
	k.lines = append(k.lines, id.Line)
	k.claims = append(k.claims, int32(claim))
	k.deliveries = append(k.deliveries, int32(delivery))
}

// inOrder returns the items in the order of their ids. Rows are locked in the
// order of the arrays, so writers that share rows wait for one another and
// never deadlock.
func inOrder[T any](items []T, id func(*T) batch.RequestID) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	slices.SortFunc(out, func(a, b *T) int {
		x, y := id(a), id(b)
		return cmp.Or(bytes.Compare(x.Batch[:], y.Batch[:]), cmp.Compare(x.Line, y.Line))
	})
	return out
}
