package dispatch

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"

	"fusillade/internal/postgres"
)

const (
	// urgentPart of what is claimed goes to urgent batches while there are any;
	// the rest is shared fairly, so that nobody waits for ever.
	urgentPart = 0.75
	// urgentMargin is added to the time that a batch is expected to take.
	urgentMargin = 30 * time.Second
	// urgentSlack multiplies that time: the expectation may be wrong.
	urgentSlack = 1.25
	// maxDebt bounds, in requests of a user of weight 1, what a user is ahead
	// of the others for after his urgent batches were served.
	maxDebt = 256
	// turns is how often a claim goes from one user to the next at most, or
	// once a request if it takes fewer: each turn is a cursor to lock and move.
	turns = 16
)

// policy decides whose requests of one model are claimed next. It is
// start-time fair queueing over the users: a user's tag grows by 1/weight with
// each of his requests, and the one with the least tag is next. Of his batches
// the one with the earliest deadline is next, then the oldest.
//
// A batch is urgent if it would be late at the pace of its user's part. Urgent
// batches come first, in the order of their deadlines, with up to urgentPart
// of what is claimed. They count for their user like all others, up to
// maxDebt: he pays for it later, but not for long.
//
// There is one policy per model and dispatcher. Several dispatchers share
// nothing but the backlog: each gives every user his part of what it claims
// itself, and so do all of them together.
//
// It is not safe for concurrent use, and does the same for the same input.
type policy struct {
	clock  float64            // the tag of the last fair choice; never goes back
	tags   map[string]float64 // of users who are ahead of the clock
	credit float64            // of urgent batches; spent at 1

	users  byTag          // with work
	urgent []*policyBatch // in the order of deadlines
	left   int            // requests on the list
}

// queue is one user's part of the list.
type queue struct {
	name    string
	weight  float64
	tag     float64
	key     float64        // the tag when its place in the heap was last put right
	batches []*policyBatch // in the order of deadlines
}

type policyBatch struct {
	postgres.Cursor
	user *queue
}

// load takes a new list of cursors, in the order of urgency, of a model that
// serves so many requests a second, by all dispatchers together; 0: not known.
func (p *policy) load(cursors []postgres.Cursor, rate float64) {
	if p.tags == nil {
		p.tags = make(map[string]float64)
	}
	p.keepTags()
	byName := make(map[string]*queue)
	p.users, p.urgent, p.left = p.users[:0], p.urgent[:0], 0
	weights := 0.0
	for _, c := range cursors {
		if c.Remaining <= 0 {
			continue
		}
		u := byName[c.CreatedBy]
		if u == nil {
			u = &queue{name: c.CreatedBy, weight: cmp.Or(c.Weight, 1), tag: max(p.tags[c.CreatedBy], p.clock)}
			u.key = u.tag
			byName[u.name] = u
			p.users = append(p.users, u)
			weights += u.weight
		}
		u.batches = append(u.batches, &policyBatch{Cursor: c, user: u})
		p.left += c.Remaining
	}
	heap.Init(&p.users)
	for _, u := range p.users {
		p.urgent = append(p.urgent, u.late(rate*u.weight/weights)...)
	}
	slices.SortFunc(p.urgent, func(a, b *policyBatch) int { return a.Cursor.Compare(b.Cursor) })
}

// keepTags remembers who is ahead of the clock. The others begin at it again,
// so that nobody saves up what he did not use.
func (p *policy) keepTags() {
	for _, u := range p.users {
		p.tags[u.name] = u.tag
	}
	for name, tag := range p.tags {
		if tag <= p.clock {
			delete(p.tags, name)
		}
	}
}

// late lists the batches that are not done by their deadlines if the user gets
// so many requests a second. One whose deadline has passed gains nothing from
// being early.
func (u *queue) late(rate float64) (late []*policyBatch) {
	work := 0
	for _, b := range u.batches {
		work += b.Remaining
		need := urgentMargin
		if rate > 0 {
			need += time.Duration(min(urgentSlack*float64(work)/rate*float64(time.Second), math.MaxInt64/2))
		}
		if b.Left > 0 && b.Left < need {
			late = append(late, b)
		}
	}
	return late
}

// empty reports whether all of the list was given out.
func (p *policy) empty() bool { return p.left == 0 }

// take gives out up to n requests.
func (p *policy) take(n int) (quotas []postgres.Quota, asked int) {
	n = min(n, p.left)
	places := make(map[*policyBatch]int)
	for chunk := max(n/turns, 1); asked < n; {
		b := p.nextUrgent()
		if b == nil {
			b = p.nextFair()
		}
		got := min(chunk, n-asked, b.Remaining)
		p.charge(b.user, float64(got))
		b.Remaining -= got
		p.left -= got
		asked += got
		place, ok := places[b]
		if !ok {
			place = len(quotas)
			places[b] = place
			quotas = append(quotas, postgres.Quota{Batch: b.Batch, Route: b.Route})
		}
		quotas[place].N += got
	}
	return quotas, asked
}

// nextUrgent is the most urgent batch if it is the turn of one, else nil.
func (p *policy) nextUrgent() *policyBatch {
	for len(p.urgent) > 0 && p.urgent[0].Remaining == 0 {
		p.urgent = p.urgent[1:]
	}
	if len(p.urgent) == 0 {
		p.credit = 0
		return nil
	}
	if p.credit += urgentPart; p.credit < 1 {
		return nil
	}
	p.credit--
	return p.urgent[0]
}

// nextFair is the first batch of the user with the least tag.
func (p *policy) nextFair() *policyBatch {
	for {
		u := p.users[0]
		for len(u.batches) > 0 && u.batches[0].Remaining == 0 {
			u.batches = u.batches[1:]
		}
		switch {
		case len(u.batches) == 0:
			p.tags[u.name] = u.tag
			heap.Pop(&p.users)
		case u.key < u.tag: // tags only grow, so those behind it need no look
			u.key = u.tag
			heap.Fix(&p.users, 0)
		default:
			p.clock = max(p.clock, u.tag)
			return u.batches[0]
		}
	}
}

// charge moves the user's tag for the requests that he is given.
func (p *policy) charge(u *queue, requests float64) {
	bound := p.clock + max(maxDebt, requests)/u.weight
	u.tag = max(u.tag, min(u.tag+requests/u.weight, bound))
}

// byTag is a heap, least tag first.
type byTag []*queue

func (h byTag) Len() int { return len(h) }
func (h byTag) Less(i, j int) bool {
	return h[i].key < h[j].key || h[i].key == h[j].key && h[i].name < h[j].name
}
func (h byTag) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byTag) Push(x any)   { *h = append(*h, x.(*queue)) }
func (h *byTag) Pop() any {
	last := len(*h) - 1
	u := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return u
}
