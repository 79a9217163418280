package slots

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"fusillade/internal/batch"
)

// Entry is the value of one model in the bucket.
type Entry struct {
	Model batch.Model `json:"model"`
	Limit int         `json:"limit"`
	// Auto is of a limit that is found while it runs; nil: it is a number. It is
	// replaced, never changed.
	Auto *Auto `json:"auto,omitempty"`
	// Paused lets no call begin, with or without slots.
	Paused bool `json:"paused,omitempty"`
	// EscalationModel is where requests go when less than that is left before
	// their batch expires; empty: nowhere else.
	EscalationModel   batch.Model `json:"escalation_model,omitempty"`
	EscalationSeconds int64       `json:"escalation_threshold_seconds,omitempty"`
	// The rate limit is of each minute, and of all calls to the model; 0: none.
	RequestsPerMinute int64             `json:"requests_per_minute,omitempty"`
	TokensPerMinute   int64             `json:"tokens_per_minute,omitempty"`
	Holders           map[string]Holder `json:"holders,omitempty"` // key: daemon id
}

// Holder is one daemon's part.
type Holder struct {
	Held int `json:"held"` // calls it may have in flight
	Want int `json:"want"` // calls it would have in flight if it could; at the limit: it has more queued
}

func decode(raw []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return Entry{}, fmt.Errorf("decoding slots: %w", err)
	}
	return e, nil
}

func (e Entry) encode() []byte {
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, ints and a map of them always encode
	}
	return raw
}

// with returns a copy in which a daemon has the given part; the zero Holder
// removes it.
func (e Entry) with(daemon string, h Holder) Entry {
	e.Holders = maps.Clone(e.Holders)
	if h == (Holder{}) {
		delete(e.Holders, daemon)
		return e
	}
	if e.Holders == nil {
		e.Holders = make(map[string]Holder, 1)
	}
	e.Holders[daemon] = h
	return e
}

// Held is the sum of what all daemons hold. It is above the limit only while
// calls end that were begun before the limit was lowered.
func (e Entry) Held() int { return e.others("") }

// others sums what daemons other than this one hold.
func (e Entry) others(daemon string) int {
	sum := 0
	for id, h := range e.Holders {
		if id != daemon {
			sum += h.Held
		}
	}
	return sum
}

// othersShort reports whether a daemon other than this one wants more than it
// holds, and whether one of them has more queued.
func (e Entry) othersShort(daemon string) (short, queued bool) {
	for id, h := range e.Holders {
		if id != daemon {
			short = short || h.Want > h.Held
			queued = queued || h.Want >= e.Limit
		}
	}
	return short, queued
}

// share is a daemon's max-min fair part of the limit, given what all want:
// nobody gets more than it wants, and what one leaves is shared by the rest.
// Slots that do not divide evenly go to those that hold most, so that they
// move as little as possible.
func (e Entry) share(daemon string) int {
	type claim struct {
		id   string
		want int
		held int
		got  int
	}
	claims := make([]claim, 0, len(e.Holders))
	for id, h := range e.Holders {
		claims = append(claims, claim{id: id, want: h.Want, held: h.Held})
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(b.held, a.held), cmp.Compare(a.id, b.id))
	})
	for left := e.Limit; left > 0; {
		open := 0
		for _, c := range claims {
			if c.got < c.want {
				open++
			}
		}
		if open == 0 {
			break
		}
		each := max(left/open, 1)
		for i := range claims {
			more := min(each, claims[i].want-claims[i].got, left)
			claims[i].got += more
			left -= more
		}
	}
	for _, c := range claims {
		if c.id == daemon {
			return c.got
		}
	}
	return 0
}

// settle computes what a daemon should hold when it wants that many slots and
// has inUse calls in flight, and the number of calls below which it may begin
// another. It never lets the sum pass the limit. Where it lowers, it never goes
// below the calls in flight, and target is what it goes down to as they end.
func (e Entry) settle(daemon string, want, inUse int) (next Holder, target int) {
	held := e.Holders[daemon].Held
	share := e.with(daemon, Holder{Held: held, Want: want}).share(daemon)
	if share >= held {
		next = Holder{Held: max(held, min(share, e.Limit-e.others(daemon))), Want: want}
		return next, next.Held
	}
	return Holder{Held: max(share, min(inUse, held)), Want: want}, share
}
