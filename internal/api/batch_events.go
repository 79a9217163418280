package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"fusillade/internal/batch"
)

const (
	eventInterval = time.Second
	// lookInterval is how often is looked what holds up a batch that does not move,
	// and movingInterval of one that does: some of its models may not.
	lookInterval, movingInterval = 2 * time.Second, 10 * time.Second
	// keepAlive is the longest silence on a stream of events.
	keepAlive = 15 * time.Second
	// maxWatchers bounds who is sent events at once.
	maxWatchers = 256
)

// batchEvents sends the batch object as a server-sent event, now and whenever
// its counts or what holds it up change, until the batch has finished. A client that reconnects gets
// what is then.
func (s *Server) batchEvents(c *call, p batchParams) error {
	b, err := s.cfg.Store.GetBatch(c.Context(), p.id, &c.owner)
	if err != nil {
		return err
	}
	leave, err := s.watchers.enter(c.Context(), c.owner)
	if err != nil {
		return err
	}
	defer leave()
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	if c.Method == http.MethodHead {
		return nil
	}
	w := s.pacedWriter(c.w)
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	var last batchObject
	var lastSent, looked time.Time
	for {
		object := asBatch(b)
		object.XStatus = last.XStatus
		changed := object.RequestCounts != last.RequestCounts || object.Status != last.Status
		if age := time.Since(looked); age >= lookInterval && !changed || age >= movingInterval {
			looked, object.XStatus = time.Now(), s.waiting(c.Context(), b)
			changed = changed || !object.XStatus.same(last.XStatus)
		}
		if changed {
			last, err = object, writeEvent(w, object)
		} else if time.Since(lastSent) > keepAlive {
			_, err = w.Write([]byte(": still here\n\n"))
		}
		if err == nil && (changed || time.Since(lastSent) > keepAlive) {
			lastSent, err = time.Now(), w.control.Flush()
		}
		if err != nil || b.Status.Terminal() {
			return nil // the stream ends; there is nobody to be told why
		}
		select {
		case <-tick.C:
		case <-c.Context().Done():
			return nil
		case <-s.streams.Done():
			return nil
		}
		if b, err = s.cfg.Store.GetBatch(c.Context(), b.ID, &c.owner); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// eventNames are by status, as those of OpenAI's webhooks.
var eventNames = map[batch.Status]string{
	batch.StatusInProgress: "batch.in_progress", batch.StatusCompleted: "batch.completed",
	batch.StatusCancelled: "batch.cancelled", batch.StatusExpired: "batch.expired",
}

func writeEvent(w pacedWriter, b batchObject) error {
	data, err := json.Marshal(b) // on one line, as an event needs it
	if err != nil {
		return err
	}
	var event bytes.Buffer
	event.WriteString("event: " + eventNames[batch.Status(b.Status)] + "\ndata: ")
	event.Write(data)
	event.WriteString("\n\n")
	_, err = w.Write(event.Bytes())
	return err
}
