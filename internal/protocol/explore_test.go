package protocol_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"fusillade/internal/protocol"
)

// counter counts up, and can be reset until it is at the end.
type counter struct {
	end, broken int
	trap        int // from here there is no way on
}

type name string

func (n name) String() string { return string(n) }

func (c counter) Initial() []int   { return []int{0} }
func (c counter) Ended(n int) bool { return n == c.end }
func (c counter) Broken(n int) string {
	if n == c.broken {
		return "never so high"
	}
	return ""
}

func (c counter) Next(n int, emit func(protocol.Step[int, name])) {
	if n < c.end && n != c.trap {
		emit(protocol.Step[int, name]{Action: "up", To: n + 1, Fair: true})
	}
	if n == c.trap-2 {
		emit(protocol.Step[int, name]{Action: "jump", To: c.trap})
	}
	if n > 0 && n < c.end {
		emit(protocol.Step[int, name]{Action: "reset", To: 0})
	}
}

func TestExploreFindsTheShortestTrace(t *testing.T) {
	t.Parallel()
	r, err := protocol.Explore(counter{end: 10, broken: 7, trap: -1}, 100)
	if err != nil || r.Broken != "never so high" || len(r.Trace) != 7 {
		t.Errorf("%v, %v", r, err)
	}
	for i, step := range r.Trace {
		if step.Action != "up" || step.To != i+1 {
			t.Errorf("step %d: %+v", i, step)
		}
	}
}

func TestExploreCounts(t *testing.T) {
	t.Parallel()
	r, err := protocol.Explore(counter{end: 10, broken: -1, trap: -1}, 100)
	if err != nil || r.Broken != "" || r.States != 11 || r.Depth != 10 || r.Steps != 10+9 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestExploreFindsWhereNothingEnds(t *testing.T) {
	t.Parallel()
	r, err := protocol.Explore(counter{end: 10, broken: -1, trap: 4}, 100)
	if err != nil || r.Broken != protocol.Liveness {
		t.Fatalf("%+v, %v", r, err)
	}
	// From 0 on fair steps lead to 4 and no further: only what is not fair leaves it.
	if len(r.Trace) != 0 || fmt.Sprint(r.Stuck) != "[up]" || !strings.Contains(r.String(), "no fair steps lead to an end") {
		t.Errorf("%s", r)
	}
}

func TestExploreIsBounded(t *testing.T) {
	t.Parallel()
	if _, err := protocol.Explore(counter{end: 1000, broken: -1, trap: -1}, 100); !errors.Is(err, protocol.ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
}
