//go:build chaos && unix

package chaos

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/streams"
)

// Every hint is lost: polls do all the work.
func TestLostHints(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{loseHints: true})
	c.pair()
	at := time.Now()
	id := c.batch(400)
	c.awaitDone(id, 400)
	faults.add(t, "every hint lost (time: 400 requests from begin to end)", c.verify(), time.Since(at))
}

// Messages come twice and more: while the first is queued, in flight, and long
// after its request has ended. The stream is told to allow it.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.pair()
	js, err := jetstream.New(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	config := streams.Config{StaleDaemonThreshold: 3 * time.Second}.StreamConfig(0)
	config.MaxMsgsPerSubject, config.DiscardNewPerSubject = -1, false
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	const n = 600
	choose := choices(t)
	copies := 0
	var kept []*nats.Msg // both are the subscription's
	watch, err := c.conn.Subscribe("fusillade.requests.>", func(m *nats.Msg) {
		if m.Header.Get("Copy") != "" {
			return
		}
		again := &nats.Msg{Subject: m.Subject, Header: m.Header}
		again.Header.Set("Copy", "1")
		kept = append(kept, again)
		for _, m := range []*nats.Msg{again, kept[choose.IntN(len(kept))]} {
			if c.conn.PublishMsg(m) == nil {
				copies++
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	watch.SetClosedHandler(func(string) { close(over) })
	id := c.batch(n)
	c.awaitDone(id, n)
	if err := watch.Drain(); err != nil {
		t.Fatal(err)
	}
	<-over
	outcome := c.verify()
	if copies < n {
		t.Errorf("only %d copies were published", copies)
	}
	t.Logf("%d copies", copies)
	faults.add(t, "messages published again, while queued, in flight and after", outcome, 0)
}
