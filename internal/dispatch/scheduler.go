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
	// the rest is shared fairly, so that no owner waits for ever.
	urgentPart = 0.75
	// urgentMargin is added to the time that a batch is expected to take.
	urgentMargin = 30 * time.Second
	// urgentSlack multiplies that time: the expectation may be wrong.
	urgentSlack = 1.25
	// maxDebt bounds, in requests of an owner of weight 1, by how much an owner is
	// ahead of the others after their urgent batches were served.
	maxDebt = 256
	// leastCost is the least that a request is charged with: its claim, its start and
	// its result are work too, so that an owner whose calls fail at once has no more
	// requests than others for it. It is also the charge while nothing is known of
	// any owner.
	leastCost = 50 * time.Millisecond
	// servedCalls is over how many requests the usual cost of one is averaged.
	servedCalls = 64
	// rounds is how often a claim goes from one owner to the next at most, or
	// once a request if it takes fewer: each round is a cursor to lock and move.
	rounds = 16
)

// scheduler orders the requests of one model for the claim. It is start-time
// fair queueing over the owners (Goyal, Vin, Cheng 1996) of the time of slots: an
// owner's tag grows with each of their requests by its cost / weight, and the owner
// with the least tag is next. The cost is how long the owner's calls keep a slot
// busy on average, so that one whose calls take ten times as long is given a tenth
// as many. Of what an owner has,
// automatic retries that are due are next, then the batch with the highest priority,
// of those the one with the earliest deadline, then the oldest; of one batch, what is due goes before what was never
// claimed. So being due, or rerun, moves nobody ahead of another owner.
//
// An owner who begins, or comes back, is behind the others by half of what each of
// them has in progress at most (lead): the slots are full of their calls, and those
// that free are first for who has none. To be as far behind again, an owner must let
// the others be served that much, so that nobody gets more than their share by
// coming and going.
//
// A batch is urgent if it would be late at the pace of its owner's share. Urgent
// batches come first, in the order of their deadlines, with up to urgentPart
// of what is claimed. They are charged to their owner like all others, up to
// maxDebt: the owner is behind for it later, but not for long.
//
// There is one scheduler per model and dispatcher. Several dispatchers share
// nothing but the pending requests: each gives every owner their share of what it
// claims itself, and so do all of them together.
//
// It is not safe for concurrent use, and does the same for the same input.
type scheduler struct {
	times  *callTimes         // of the owners' calls; nil: none are known
	usual  time.Duration      // the cost of those whose call times are not known
	served float64            // the average cost of the requests given out of late, in seconds
	inUse  time.Duration      // slots in use × the time of a call: what all owners together have in progress
	lead   float64            // by how much an owner who begins is behind the clock, in seconds
	clock  float64            // the tag of the last fair choice, in seconds; never goes back
	tags   map[string]float64 // of owners that are not lead behind the clock
	credit float64            // of urgent batches; spent at 1

	owners byTag          // with work
	urgent []*schedulable // in the order of deadlines
	left   int            // requests on the list
	short  bool           // something on the list was given out of which there is more than was listed
}

// ownerQueue is one owner's part of the list.
type ownerQueue struct {
	name    string
	weight  float64
	tag     float64        // in seconds of slots, by weight
	key     float64        // the tag when its place in the heap was last put right
	batches []*schedulable // automatic retries first, then in the order of deadlines
}

type schedulable struct {
	postgres.Cursor
	owner *ownerQueue
}

// load takes a new list of cursors of a model that serves so many requests a
// second, by all dispatchers together; 0: not known.
func (p *scheduler) load(cursors []postgres.Cursor, rate float64) {
	if p.tags == nil {
		p.tags = make(map[string]float64)
	}
	p.keepTags()
	byName := make(map[string]*ownerQueue)
	p.owners, p.urgent, p.left, p.short = p.owners[:0], p.urgent[:0], 0, false
	weights := 0.0
	slices.SortStableFunc(cursors, func(a, b postgres.Cursor) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Priority, a.Priority), a.Compare(b))
	})
	for _, c := range cursors {
		if c.Remaining <= 0 {
			continue
		}
		o := byName[c.CreatedBy]
		if o == nil {
			o = &ownerQueue{name: c.CreatedBy, weight: cmp.Or(c.Weight, 1)}
			byName[o.name] = o
			p.owners = append(p.owners, o)
			weights += o.weight
		}
		o.batches = append(o.batches, &schedulable{Cursor: c, owner: o})
		p.left += c.Remaining
	}
	if weights > 0 {
		p.lead = p.inUse.Seconds() / weights
	}
	for _, o := range p.owners {
		tag, known := p.tags[o.name]
		if o.tag = p.clock - p.lead; known {
			o.tag = max(o.tag, tag)
		}
		o.key = o.tag
	}
	heap.Init(&p.owners)
	p.usual = p.times.usual(p.owners)
	for _, o := range p.owners {
		cost := p.cost(o)
		p.urgent = append(p.urgent, o.late(rate*o.weight/weights*cmp.Or(p.served, cost)/cost)...)
	}
	slices.SortFunc(p.urgent, func(a, b *schedulable) int { return a.Cursor.Compare(b.Cursor) })
}

// cost is how many seconds of a slot a request of the owner takes.
func (p *scheduler) cost(o *ownerQueue) float64 {
	return costOf(p.mean(o))
}

// mean is how long a call of the owner keeps a slot; 0: it is not known.
func (p *scheduler) mean(o *ownerQueue) time.Duration { return cmp.Or(p.times.mean(o.name), p.usual) }

func costOf(mean time.Duration) float64 { return max(mean, leastCost).Seconds() }

// meanOwners bounds of how many owners the next requests are looked at.
const meanOwners = 64

// callTime is how long the calls of the next requests are expected to keep a slot, on
// average: of each owner as many come as their cost allows. 0: it is not known.
func (p *scheduler) callTime() time.Duration {
	requests, seconds := 0.0, 0.0
	for _, o := range p.owners[:min(len(p.owners), meanOwners)] { // of a heap, those who are next
		mean := p.mean(o)
		if mean == 0 || !slices.ContainsFunc(o.batches, func(b *schedulable) bool { return b.Remaining > 0 }) {
			continue
		}
		n := o.weight / costOf(mean)
		requests += n
		seconds += n * mean.Seconds()
	}
	if requests == 0 {
		return 0
	}
	return time.Duration(seconds / requests * float64(time.Second))
}

// rank puts automatic retries before all else that an owner has.
func rank(c postgres.Cursor) int {
	if c.Kind == postgres.DueRetry {
		return 0
	}
	return 1
}

// keepTags remembers the owners who are not as far behind the clock as one who
// begins. So no owner accrues more credit than that while they have no work.
func (p *scheduler) keepTags() {
	for _, o := range p.owners {
		p.tags[o.name] = o.tag
	}
	for name, tag := range p.tags {
		if tag <= p.clock-p.lead {
			delete(p.tags, name)
		}
	}
}

// late lists the batches that miss their deadlines if the owner gets so many
// requests a second. One whose deadline has passed gains nothing from
// being early.
func (o *ownerQueue) late(rate float64) (late []*schedulable) {
	work := 0
	for _, b := range o.batches {
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
func (p *scheduler) empty() bool { return p.left == 0 }

// take gives out up to n requests.
func (p *scheduler) take(n int) (quotas []postgres.Quota, asked int) {
	n = min(n, p.left)
	places := make(map[*schedulable]int)
	for chunk := max(n/rounds, 1); asked < n; {
		b := p.nextUrgent()
		if b == nil {
			b = p.nextFair()
		}
		got := min(chunk, n-asked, b.Remaining)
		p.charge(b.owner, float64(got))
		if b.Remaining -= got; b.Remaining == 0 && b.More {
			p.short = true
		}
		p.left -= got
		asked += got
		place, ok := places[b]
		if !ok {
			place = len(quotas)
			places[b] = place
			quotas = append(quotas, postgres.Quota{Kind: b.Kind, Batch: b.Batch, Route: b.Route})
		}
		quotas[place].N += got
	}
	return quotas, asked
}

// nextUrgent is the most urgent batch if the next place is for one, else nil.
func (p *scheduler) nextUrgent() *schedulable {
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

// nextFair is the first batch of the owner with the least tag.
func (p *scheduler) nextFair() *schedulable {
	for {
		o := p.owners[0]
		for len(o.batches) > 0 && o.batches[0].Remaining == 0 {
			o.batches = o.batches[1:]
		}
		switch {
		case len(o.batches) == 0:
			p.tags[o.name] = o.tag
			heap.Pop(&p.owners)
		case o.key < o.tag: // tags only grow, so those behind it need no look
			o.key = o.tag
			heap.Fix(&p.owners, 0)
		default:
			p.clock = max(p.clock, o.tag)
			return o.batches[0]
		}
	}
}

// charge moves the owner's tag for the requests that they are given.
func (p *scheduler) charge(o *ownerQueue, requests float64) {
	cost := p.cost(o)
	p.served = cmp.Or(p.served, cost)
	p.served += (cost - p.served) * min(requests/servedCalls, 1)
	bound := p.clock + max(maxDebt, requests)*cost/o.weight
	o.tag = max(o.tag, min(o.tag+requests*cost/o.weight, bound))
}

// byTag is a heap, least tag first.
type byTag []*ownerQueue

func (h byTag) Len() int { return len(h) }
func (h byTag) Less(i, j int) bool {
	return h[i].key < h[j].key || h[i].key == h[j].key && h[i].name < h[j].name
}
func (h byTag) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byTag) Push(x any)   { *h = append(*h, x.(*ownerQueue)) }
func (h *byTag) Pop() any {
	last := len(*h) - 1
	o := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return o
}
