package protocol

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// Model is a transition system: what may be in the beginning, and what may happen
// next. S is a state, compared by value; A is the name of a step.
type Model[S comparable, A fmt.Stringer] interface {
	// Initial returns the states in which it begins.
	Initial() []S
	// Next calls emit once for each step that may be made in s, always in the same
	// order.
	Next(s S, emit func(Step[S, A]))
	// Broken names an invariant that does not hold in s; empty: all do.
	Broken(s S) string
	// Ended reports whether s is where everything should end.
	Ended(s S) bool
}

// Step is one thing that may happen.
type Step[S comparable, A fmt.Stringer] struct {
	Action A
	To     S
	// Fair: it happens in the end if it may happen again and again. Faults, and what
	// people do, are not fair: they may never happen.
	Fair bool
	// Broken names an invariant that the step itself breaks; empty: none.
	Broken string
}

// Liveness is the name of the property that Explore looks for when it has seen
// every state: from each of them fair steps alone lead to an end.
const Liveness = "every request ends"

// Report says what an exploration has found.
type Report[S comparable, A fmt.Stringer] struct {
	States, Steps int
	Depth         int    // steps to the state that is farthest away
	Broken        string // the first invariant that does not hold; empty: all do
	// Trace leads to where it is broken, by as few steps as possible.
	Trace []Step[S, A]
	// Stuck are the fair steps that are left at the end of the trace of a broken
	// Liveness: none of them, however often they are made, leads to an end.
	Stuck []string
}

// ErrTooLarge is returned by Explore for a model of more states than were allowed.
var ErrTooLarge = errors.New("the model has more states than are allowed")

// Explore looks at every state that can be reached, breadth first, and stops at
// the first invariant that is broken. It keeps of each state 128 bits of its hash
// and not the state: that two of ten million states share them has a probability
// below 10⁻²⁴.
func Explore[S comparable, A fmt.Stringer](m Model[S, A], maxStates int) (Report[S, A], error) {
	e := explorer[S, A]{m: m, seen: newIndex[S]()}
	err := e.run(maxStates)
	return e.report, err
}

type explorer[S comparable, A fmt.Stringer] struct {
	m       Model[S, A]
	seen    *index[S]
	parents []uint32 // of each state, in the order in which they were found
	choices []uint16 // which step of its parent leads to it
	ended   []bool
	fair    edges
	report  Report[S, A]
}

// none is the parent of the states in which a model begins.
const none = ^uint32(0)

func (e *explorer[S, A]) run(maxStates int) error {
	var layer, next []S
	first := uint32(0) // number of layer[0]
	add := func(s S, parent uint32, choice int) (uint32, string) {
		id, fresh := e.seen.add(s)
		if !fresh {
			return id, ""
		}
		e.parents, e.choices = append(e.parents, parent), append(e.choices, uint16(choice))
		e.ended = append(e.ended, e.m.Ended(s))
		next = append(next, s)
		return id, e.m.Broken(s)
	}
	for i, s := range e.m.Initial() {
		if id, broken := add(s, none, i); broken != "" {
			e.found(broken, id, -1)
			return nil
		}
	}
	for depth := 0; len(next) > 0; depth++ {
		e.report.Depth = depth
		first += uint32(len(layer))
		layer, next = next, layer[:0:0]
		for i, s := range layer {
			from, choice := first+uint32(i), 0
			e.m.Next(s, func(step Step[S, A]) {
				n := choice
				choice++
				if e.report.Broken != "" {
					return
				}
				e.report.Steps++
				if step.Broken != "" {
					e.found(step.Broken, from, n)
					return
				}
				to, broken := add(step.To, from, n)
				if broken != "" {
					e.found(broken, to, -1)
					return
				}
				if step.Fair && to != from {
					e.fair.add(from, to)
				}
			})
			if e.report.Broken != "" {
				return nil
			}
		}
		if e.report.States = len(e.parents); e.report.States > maxStates {
			return fmt.Errorf("%w: %d", ErrTooLarge, maxStates)
		}
	}
	if id, ok := e.fair.lost(e.ended); ok {
		e.found(Liveness, id, -1)
	}
	return nil
}

// found makes the trace to a state, and to one of its steps unless last is negative.
func (e *explorer[S, A]) found(broken string, id uint32, last int) {
	e.report.Broken, e.report.States = broken, len(e.parents)
	var path []uint16
	for at := id; at != none; at = e.parents[at] {
		path = append(path, e.choices[at])
	}
	s := e.m.Initial()[path[len(path)-1]]
	for i := len(path) - 2; i >= 0; i-- {
		step := e.step(s, int(path[i]))
		e.report.Trace = append(e.report.Trace, step)
		s = step.To
	}
	if last >= 0 {
		e.report.Trace = append(e.report.Trace, e.step(s, last))
	}
	if broken == Liveness {
		e.m.Next(s, func(step Step[S, A]) {
			if step.Fair && step.To != s {
				e.report.Stuck = append(e.report.Stuck, step.Action.String())
			}
		})
	}
}

// step returns the n-th step from s.
func (e *explorer[S, A]) step(s S, n int) (out Step[S, A]) {
	e.m.Next(s, func(step Step[S, A]) {
		if n--; n == -1 {
			out = step
		}
	})
	return out
}

// String tells the trace step by step, for people.
func (r Report[S, A]) String() string {
	if r.Broken == "" {
		return fmt.Sprintf("%d states, %d steps, %d deep: every invariant holds", r.States, r.Steps, r.Depth)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "broken after %d steps: %s\n", len(r.Trace), r.Broken)
	for i, step := range r.Trace {
		fmt.Fprintf(&b, "%4d  %s\n", i+1, step.Action)
		if i == len(r.Trace)-1 {
			fmt.Fprintf(&b, "%v\n", step.To)
		}
	}
	if r.Broken == Liveness {
		fmt.Fprintf(&b, "from here no fair steps lead to an end; there are: %s\n", strings.Join(r.Stuck, "; "))
	}
	return b.String()
}

// edges are steps between states, by their numbers.
type edges struct{ from, to []uint32 }

func (g *edges) add(from, to uint32) { g.from, g.to = append(g.from, from), append(g.to, to) }

// lost returns the first state from which none of the ended ones can be reached.
func (g *edges) lost(ended []bool) (uint32, bool) {
	// The edges backwards, grouped by their end.
	begin := make([]uint32, len(ended)+1)
	for _, to := range g.to {
		begin[to+1]++
	}
	for i := range ended {
		begin[i+1] += begin[i]
	}
	back, place := make([]uint32, len(g.to)), make([]uint32, len(ended))
	copy(place, begin)
	for i, to := range g.to {
		back[place[to]] = g.from[i]
		place[to]++
	}
	reaches := make([]bool, len(ended))
	var todo []uint32
	for id, is := range ended {
		if is {
			reaches[id] = true
			todo = append(todo, uint32(id))
		}
	}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range back[begin[id]:begin[id+1]] {
			if !reaches[from] {
				reaches[from] = true
				todo = append(todo, from)
			}
		}
	}
	for id, does := range reaches {
		if !does {
			return uint32(id), true
		}
	}
	return 0, false
}

// index numbers states in the order in which they are added: an open hash table
// of numbers, beside the hashes.
type index[S comparable] struct {
	seeds  [2]maphash.Seed
	hashes [][2]uint64
	table  []uint32 // number + 1; 0: free
}

func newIndex[S comparable]() *index[S] {
	return &index[S]{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, table: make([]uint32, 1<<12)}
}

func (x *index[S]) add(s S) (id uint32, fresh bool) {
	hash := [2]uint64{maphash.Comparable(x.seeds[0], s), maphash.Comparable(x.seeds[1], s)}
	place := x.place(hash)
	if n := x.table[place]; n != 0 {
		return n - 1, false
	}
	x.hashes = append(x.hashes, hash)
	x.table[place] = uint32(len(x.hashes))
	if 2*len(x.hashes) > len(x.table) {
		x.table = make([]uint32, 2*len(x.table))
		for i, h := range x.hashes {
			x.table[x.place(h)] = uint32(i + 1)
		}
	}
	return uint32(len(x.hashes) - 1), true
}

// place is where the hash is, or would be.
func (x *index[S]) place(hash [2]uint64) uint64 {
	mask := uint64(len(x.table) - 1)
	for at := hash[0] & mask; ; at = (at + 1) & mask {
		if n := x.table[at]; n == 0 || x.hashes[n-1] == hash {
			return at
		}
	}
}
