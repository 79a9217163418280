package consume

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

// inbox is where the broker delivers to this consumer, the messages of all pools by
// one subscription. A message keeps its lease whether or not anybody listens, so
// one that came to a pull which was given up would be lost until its lease runs
// out: on a machine with more to do than it can, that would be most of them. Here
// it reaches its pool all the same, and goes back at once if there is none.
//
// What is queued is bounded by what the pools have asked for. It is safe for
// concurrent use.
type inbox struct {
	c      *Consumer
	prefix string // of the reply subjects of pulls
	sub    *nats.Subscription

	mu    sync.Mutex
	trays map[batch.Model]*tray
	pulls map[uint64]*tray // those that go on, by number
	last  uint64
}

// tray is what has come for one pool.
type tray struct {
	arrived notify.Signal

	pull uint64 // the pull that goes on; guarded by the mutex of the inbox

	mu       sync.Mutex
	messages []arrival
	news     news
	closed   bool
}

// news is what the server said of a pull.
type news struct {
	pull   uint64
	status string // empty: nothing yet
	why    string
}

// arrival is a message and the request that it stands for.
type arrival struct {
	msg *nats.Msg
	id  batch.RequestID
}

// openInbox subscribes. What arrives needs no pool yet.
func openInbox(c *Consumer) (*inbox, error) {
	in := &inbox{c: c, prefix: c.cfg.Conn.NewInbox() + ".", trays: make(map[batch.Model]*tray), pulls: make(map[uint64]*tray)}
	sub, err := c.cfg.Conn.Subscribe(in.prefix+"*", in.receive)
	if err != nil {
		return nil, fmt.Errorf("subscribing to deliveries: %w", err)
	}
	in.sub = sub
	// The client's own limits would drop messages, whose leases run on.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("subscribing to deliveries: %w", err)
	}
	return in, nil
}

func (in *inbox) close() { _ = in.sub.Unsubscribe() }

// open makes a model's tray. There is one at a time.
func (in *inbox) open(model batch.Model) *tray {
	b := &tray{arrived: notify.New()}
	in.mu.Lock()
	in.trays[model] = b
	in.mu.Unlock()
	return b
}

// shut releases what is in a model's tray, and from now on what comes for it.
func (in *inbox) shut(model batch.Model, b *tray) {
	in.mu.Lock()
	if in.trays[model] == b {
		delete(in.trays, model)
	}
	delete(in.pulls, b.pull)
	in.mu.Unlock()
	b.mu.Lock()
	b.closed = true
	left := b.messages
	b.messages = nil
	b.mu.Unlock()
	for _, a := range left {
		in.c.report(a.msg.Nak())
	}
}

// begin returns the number of a pull that begins, in the place of the one before,
// and its reply subject.
func (in *inbox) begin(b *tray) (pull uint64, reply string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.last++
	delete(in.pulls, b.pull)
	b.pull = in.last
	in.pulls[b.pull] = b
	return b.pull, in.prefix + strconv.FormatUint(b.pull, 10)
}

// receive takes what the broker sends, and never waits.
func (in *inbox) receive(msg *nats.Msg) {
	if number, ok := strings.CutPrefix(msg.Subject, in.prefix); ok { // a status: messages have the subject of the stream
		in.status(number, msg.Header.Get(streams.HeaderStatus), msg.Header.Get(streams.HeaderDescription))
		return
	}
	model, id, err := streams.ParseRequestSubject(msg.Subject)
	if err != nil {
		in.c.dropMalformed(msg, err)
		return
	}
	in.mu.Lock()
	b := in.trays[model]
	in.mu.Unlock()
	if b == nil || !b.put(arrival{msg, id}) {
		in.c.report(msg.Nak())
	}
}

// status takes what the server says of a pull. Of one that was given up it says
// nothing.
func (in *inbox) status(pull, status, why string) {
	number, err := strconv.ParseUint(pull, 10, 64)
	if err != nil {
		return
	}
	in.mu.Lock()
	b := in.pulls[number]
	in.mu.Unlock()
	if b == nil {
		return
	}
	b.mu.Lock()
	b.news = news{number, status, why}
	b.mu.Unlock()
	b.arrived.Notify()
}

// put queues a message unless the tray is shut.
func (b *tray) put(a arrival) bool {
	b.mu.Lock()
	open := !b.closed
	if open {
		b.messages = append(b.messages, a)
	}
	b.mu.Unlock()
	b.arrived.Notify()
	return open
}

// take returns what has come, and what was said last of the pull.
func (b *tray) take(pull uint64) ([]arrival, news) {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages, said := b.messages, news{}
	b.messages = nil
	if b.news.pull == pull {
		said, b.news = b.news, news{}
	}
	return messages, said
}

// dropMalformed lets go of a message that no claim has published.
func (c *Consumer) dropMalformed(msg *nats.Msg, err error) {
	c.metrics.dropped(telemetry.DroppedMessage, 1)
	c.cfg.Log.Error("message is malformed and was dropped", "subject", msg.Subject, "err", err)
	c.report(msg.Term())
}
