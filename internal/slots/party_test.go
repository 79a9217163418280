package slots

import (
	"time"

	"fusillade/internal/notify"
)

// bucket is one entry that changes by compare-and-set, and all it has been.
type bucket struct {
	history []Entry // by revision - 1
}

func (b *bucket) revision() uint64 { return uint64(len(b.history)) }
func (b *bucket) entry() Entry     { return b.history[len(b.history)-1] }

func (b *bucket) update(t failer, next Entry, revision uint64) bool {
	t.Helper()
	if revision != b.revision() {
		return false
	}
	before := b.entry().Held()
	if held := next.Held(); held > max(next.Limit, before) {
		t.Fatalf("%d slots are held with a limit of %d, and were %d", held, next.Limit, before)
	}
	b.history = append(b.history, next)
	return true
}

func (b *bucket) setLimit(n int) {
	e := b.entry()
	e.Limit = n
	b.history = append(b.history, e)
}

// party is a daemon with its account and its connection to the bucket.
type party struct {
	*Account
	bucket *bucket
	now    *time.Time
	woken  int // calls of changed

	// A write on its way: planned, then maybe landed, then maybe answered.
	writing  bool
	planned  Entry
	replaces uint64 // the revision
	landed   uint64 // as which revision; 0: not
	stray    []func(failer)
}

func newParty(b *bucket, now *time.Time, i, capacity int) *party {
	p := &party{bucket: b, now: now}
	p.Account = &Account{model: "m", daemon: id(i), capacity: capacity, wake: notify.New(), changed: func() { p.woken++ }}
	return p
}

func (p *party) begin() {
	if p.writing {
		return
	}
	p.planned, p.replaces, p.writing = p.plan(*p.now, nil)
	p.landed = 0
}

func (p *party) arrive(t failer) {
	t.Helper()
	if p.writing && p.landed == 0 && p.bucket.update(t, p.planned, p.replaces) {
		p.landed = p.bucket.revision()
	}
}

// answer ends the write with the bucket's answer, as Keeper.write does.
func (p *party) answer() {
	if !p.writing {
		return
	}
	p.writing = false
	if p.landed != 0 {
		p.applied(p.planned, p.landed)
	} else {
		p.observe(p.bucket.entry(), p.bucket.revision())
	}
}

// lose gives the write up: its answer is lost, or it lands only later.
func (p *party) lose() {
	if p.writing && p.landed == 0 {
		planned, replaces := p.planned, p.replaces
		p.stray = append(p.stray, func(t failer) { p.bucket.update(t, planned, replaces) })
	}
	p.writing = false
}

// settleNow plans and writes until there is nothing more to write.
func (p *party) settleNow(t failer) {
	t.Helper()
	for range 10 {
		p.answer()
		p.begin()
		if !p.writing {
			return
		}
		p.arrive(t)
	}
	t.Fatalf("daemon %s writes and writes", p.daemon)
}
