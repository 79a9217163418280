package rate

import (
	"encoding/json"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

const (
	// window is what a limit is for.
	window = time.Minute
	// slice is the grain in which an entry remembers the last window.
	slice = 500 * time.Millisecond
	// validity is how long a lease may be spent.
	validity = 750 * time.Millisecond
	// margin is by how much longer than the window an entry remembers, for calls
	// that take some time from the lease to the endpoint.
	margin = 500 * time.Millisecond
	// paceWindow is the time in which the pace lets a whole limit pass.
	paceWindow = 61 * time.Second
	// burst is how far the pace may fall behind and catch up, and ahead how far a
	// lease may run before it: the time to the next one.
	burst, ahead = 250 * time.Millisecond, 250 * time.Millisecond
	// anewPause is for how long a new entry grants nothing: leases of an entry
	// that was lost may still be spent, and its pace may have been ahead.
	anewPause = validity + burst + ahead + 250*time.Millisecond
	// turnTime is how long a turn stays that is not renewed.
	turnTime = 2 * time.Second
)

// Amount is how much of both kinds.
type Amount struct {
	Requests int64 `json:"requests,omitempty"`
	Tokens   int64 `json:"tokens,omitempty"`
}

func (a Amount) plus(b Amount) Amount { return Amount{a.Requests + b.Requests, a.Tokens + b.Tokens} }

func (a Amount) minus(b Amount) Amount { return Amount{a.Requests - b.Requests, a.Tokens - b.Tokens} }

// Entry is the value of one limit in the bucket. All its times are of the
// broker's clock: what a revision changes counts from the time that the broker
// gave to the revision, which fold fills in.
type Entry struct {
	Model batch.Model `json:"model,omitempty"` // empty: the limit is a credential's
	// Slices are what was leased, by the slice in which it may last be spent;
	// First is the number of the first one, counted from 1970.
	First  int64    `json:"first,omitempty"`
	Slices []Amount `json:"slices,omitempty"`
	// RequestsAt and TokensAt are when the pace lets the next one pass, in
	// nanoseconds since 1970.
	RequestsAt int64 `json:"requests_at,omitempty"`
	TokensAt   int64 `json:"tokens_at,omitempty"`

	// Leased and Paced are of this revision: what a daemon may spend from its time
	// on, and by how much that moves the pace; less than zero: back.
	Leased Amount `json:"leased,omitzero"`
	Paced  Amount `json:"paced,omitzero"`
	// Anew: the entry was made with this revision.
	Anew bool `json:"anew,omitempty"`
	// Life tells the entry from one that was lost before it.
	Life uint64 `json:"life,omitempty"`
	// Turn is the daemon that may take tokens before all others; nil: none.
	Turn *Turn `json:"turn,omitempty"`
}

// Turn keeps tokens for a request that is too large to find room between
// smaller ones.
type Turn struct {
	Daemon string `json:"daemon"`
	Tokens int64  `json:"tokens"`
	Until  int64  `json:"until"` // nanoseconds since 1970
}

func decode(raw []byte) (e Entry, err error) {
	if err = json.Unmarshal(raw, &e); err != nil {
		return Entry{}, fmt.Errorf("decoding a rate: %w", err)
	}
	if len(e.Slices) > maxSlices {
		return Entry{}, fmt.Errorf("decoding a rate: it has %d slices, more than %d", len(e.Slices), maxSlices)
	}
	return e, nil
}

// maxSlices is far above what a window has.
const maxSlices = 4 * int(window/slice)

func (e Entry) encode() []byte {
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return raw
}

func sliceAt(at time.Time) int64 { return at.UnixNano() / int64(slice) }

// add counts an amount in a slice. One so far from the others that the entry
// would grow without bounds is passed over.
func (e *Entry) add(number int64, a Amount) {
	if a == (Amount{}) {
		return
	}
	if len(e.Slices) == 0 {
		e.First = number
	}
	if before := e.First - number; before > 0 && before+int64(len(e.Slices)) <= int64(maxSlices) {
		e.Slices, e.First = append(make([]Amount, before), e.Slices...), number
	}
	i := number - e.First
	if i < 0 || i >= int64(maxSlices) {
		return
	}
	for int64(len(e.Slices)) <= i {
		e.Slices = append(e.Slices, Amount{})
	}
	e.Slices[i] = e.Slices[i].plus(a)
}

// trim forgets the slices that no window from now on reaches.
func (e *Entry) trim(now time.Time) {
	oldest := sliceAt(now.Add(-window - margin))
	for len(e.Slices) > 0 && e.First < oldest {
		e.Slices, e.First = e.Slices[1:], e.First+1
	}
}

// used is what the window that ends now has, leases that may still be spent
// included.
func (e *Entry) used() (sum Amount) {
	for _, s := range e.Slices {
		sum = sum.plus(s)
	}
	return sum
}

// fold makes what the revision changed part of the past, at the time that the
// broker gave to the revision. The entry's slices are its own afterwards.
func (e *Entry) fold(at time.Time, l batch.RateLimit) {
	e.Slices = append(make([]Amount, 0, len(e.Slices)+4), e.Slices...)
	if e.Anew {
		if len(e.Slices) == 0 { // nothing is known of the minute before
			// As if all of the limit had been used at an even pace, it comes free at one.
			from, n := sliceAt(at.Add(-window)), int64(window/slice)
			for i := range n {
				e.add(from+i, Amount{even(l.Requests, i, n), even(l.Tokens, i, n)})
			}
		}
		e.RequestsAt = max(e.RequestsAt, at.Add(anewPause).UnixNano())
		e.TokensAt = max(e.TokensAt, at.Add(anewPause).UnixNano())
	}
	e.add(sliceAt(at.Add(validity)), e.Leased)
	e.RequestsAt = paced(e.RequestsAt, at, e.Paced.Requests, l.Requests)
	e.TokensAt = paced(e.TokensAt, at, e.Paced.Tokens, l.Tokens)
	e.Leased, e.Paced, e.Anew = Amount{}, Amount{}, false
}

// remember merges what a daemon knows of an entry that was lost. Leases of the
// two stand in different slices, for a new entry grants nothing for a while.
func (e *Entry) remember(lost Entry) {
	for i, s := range lost.Slices {
		number := lost.First + int64(i)
		var known Amount
		if at := number - e.First; at >= 0 && at < int64(len(e.Slices)) {
			known = e.Slices[at]
		}
		e.add(number, Amount{max(s.Requests-known.Requests, 0), max(s.Tokens-known.Tokens, 0)})
	}
	e.RequestsAt, e.TokensAt = max(e.RequestsAt, lost.RequestsAt), max(e.TokensAt, lost.TokensAt)
}

// even is part i of n, of a whole that is shared out evenly.
func even(whole, i, n int64) int64 { return whole*(i+1)/n - whole*i/n }

// paced is where the pace stands after n more at the given time.
func paced(next int64, at time.Time, n, limit int64) int64 {
	if limit <= 0 {
		return 0
	}
	floor := at.Add(-burst).UnixNano()
	moved := max(next, floor) + step(n, limit)
	// Never beyond what the largest debt explains: clocks may have been set back.
	return min(max(moved, floor), at.Add(3*paceWindow).UnixNano())
}

// step is the time in which n pass.
func step(n, limit int64) int64 { return int64(float64(n) / float64(limit) * float64(paceWindow)) }

// grant leases to a daemon what its requests need, which are given by their
// tokens in their order, and takes back the rest of what it has kept unspent.
// It returns what the daemon may now spend. The entry was folded and trimmed,
// and the kept amount was taken out of its slices.
//
// Of each kind, what is used never passes the limit in any window; and a request
// is granted only once the pace has come to it. A request of more tokens than
// the limit counts as the whole of it, so that it goes alone.
func (e *Entry) grant(now time.Time, l batch.RateLimit, daemon string, demand []int64, kept Amount) Amount {
	used, turn := e.used(), e.Turn
	if turn != nil && turn.Until <= now.UnixNano() {
		turn = nil
	}
	room := l.Tokens - used.Tokens
	if turn != nil && turn.Daemon != daemon {
		room -= turn.Tokens
	}
	until := now.Add(ahead).UnixNano()
	var total Amount // of the requests that are granted
	for _, tokens := range demand {
		next := total.plus(Amount{1, tokens})
		more, had := next.minus(kept), total.minus(kept)
		if l.Requests > 0 && more.Requests > 0 &&
			(used.Requests+next.Requests > l.Requests || e.RequestsAt+step(max(had.Requests, 0), l.Requests) > until) {
			break
		}
		if l.Tokens > 0 && tokens > 0 {
			if next.Tokens > room {
				turn = e.nextTurn(now, l, daemon, turn, total, tokens)
				break
			}
			if more.Tokens > 0 && e.TokensAt+step(max(had.Tokens, 0), l.Tokens) > until {
				break
			}
		}
		total = next
	}
	if turn != nil && turn.Daemon == daemon && (total.Requests > 0 || len(demand) == 0) {
		turn = nil
	}
	e.Turn, e.Leased, e.Paced = turn, total, e.Paced.plus(total.minus(kept))
	return total
}

// nextTurn is the turn after a daemon's first request has found no room.
func (e *Entry) nextTurn(now time.Time, l batch.RateLimit, daemon string, turn *Turn, granted Amount, tokens int64) *Turn {
	if granted.Requests > 0 || tokens < step1s(l.Tokens) || turn != nil && turn.Daemon != daemon {
		return turn
	}
	return &Turn{Daemon: daemon, Tokens: tokens, Until: now.Add(turnTime).UnixNano()}
}

// step1s is what comes free in a second: a request that needs less finds room
// without a turn.
func step1s(limit int64) int64 { return limit / int64(window/time.Second) }
