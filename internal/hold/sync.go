package hold

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/backoff"
)

// watch follows the bucket, and begins again after each error and reconnect, and
// when the bucket has later entries than it was sent.
func (r *Registry) watch(ctx context.Context) {
	connected := r.cfg.Conn.StatusChanged(nats.CONNECTED)
	defer r.cfg.Conn.RemoveStatusListener(connected)
	pause := backoff.New(200*time.Millisecond, 2*time.Second)
	for {
		err := r.follow(ctx, connected, pause)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.cfg.Log.Warn("holds could not be watched; what is known stays in force", "err", err)
		}
		if pause.Wait(ctx) != nil {
			return
		}
	}
}

func (r *Registry) follow(ctx context.Context, connected <-chan nats.Status, pause *backoff.Backoff) error {
	seen, err := r.lastRevision(ctx) // of the bucket; what comes later is sent
	if err != nil {
		return err
	}
	w, err := r.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	poll := time.NewTimer(pollInterval)
	defer poll.Stop()
	initial := make(map[Key]Hold)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
			return nil
		case <-poll.C:
			last, err := r.lastRevision(ctx)
			if err != nil {
				return err
			}
			if last != seen || initial != nil {
				return nil // the watch missed something, or the bucket is another one
			}
			poll.Reset(backoff.Jitter(pollInterval))
		case entry, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("the watch ended")
			case entry == nil: // the end of what there was
				r.replace(initial)
				initial = nil
				pause.Reset()
			default:
				seen = max(seen, entry.Revision())
				r.take(entry, initial)
			}
		}
	}
}

// take takes over an entry, or notes it among the initial ones.
func (r *Registry) take(entry jetstream.KeyValueEntry, initial map[Key]Hold) {
	k := Key(entry.Key())
	if entry.Operation() != jetstream.KeyValuePut {
		if initial == nil {
			r.lifted(k, entry.Operation() == jetstream.KeyValuePurge)
		}
		return
	}
	h, err := decode(entry.Value())
	switch {
	case err != nil:
		r.cfg.Log.Error("a hold is malformed and was dropped", "key", entry.Key(), "err", err)
	case initial != nil:
		initial[k] = h
	default:
		r.observe(k, h)
	}
}

func (r *Registry) lastRevision(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	status, err := r.kv.Status(ctx)
	if err != nil {
		return 0, err
	}
	bucket, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return 0, errors.New("the bucket's status has no stream")
	}
	return bucket.StreamInfo().State.LastSeq, nil
}

// write publishes what this process has to tell. What cannot be written is tried
// again; it is in force here meanwhile.
func (r *Registry) write(ctx context.Context) {
	pause := backoff.New(minPublish, 2*time.Second)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake.C():
		}
		for {
			work := r.nextWrite(ctx)
			if work == nil {
				break
			}
			if err := work(); err != nil {
				if ctx.Err() != nil {
					return
				}
				r.cfg.Log.Warn("a hold could not be written and is tried again", "err", err)
			} else {
				pause.Reset()
			}
			if pause.Wait(ctx) != nil {
				return
			}
		}
	}
}

// nextWrite is what is to be done next to the bucket; nil: nothing.
func (r *Registry) nextWrite(ctx context.Context) func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.lifting {
		return func() error { return r.removeEntry(ctx, k) }
	}
	for k, s := range r.states {
		if s.probe.wanted && !s.over {
			return func() error { return r.acquireProbe(ctx, k) }
		}
	}
	for k, n := range r.pending {
		delete(r.pending, k)
		return func() error {
			err := r.merge(ctx, k, n)
			if err != nil {
				r.mu.Lock()
				r.publish(k, n.hold, n.placed)
				r.mu.Unlock()
			}
			return err
		}
	}
	return nil
}

// merge writes the hold, together with what the bucket says of the credential.
// A hold that is over meanwhile is not written.
func (r *Registry) merge(ctx context.Context, k Key, n news) error {
	for n.hold.alive(time.Now()) {
		opCtx, cancel := context.WithTimeout(ctx, opTimeout)
		err := r.mergeOnce(opCtx, k, n)
		cancel()
		if !errors.Is(err, jetstream.ErrKeyExists) { // else another process was faster
			return err
		}
	}
	return nil
}

func (r *Registry) mergeOnce(ctx context.Context, k Key, n news) error {
	h := n.hold
	current, err := r.kv.Get(ctx, string(k))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if !n.placed {
			return nil
		}
		_, err = r.kv.Create(ctx, string(k), h.encode())
		if err == nil {
			r.wrote(k, h)
		}
		return err
	}
	if err != nil {
		return err
	}
	before, err := decode(current.Value())
	if err != nil || !before.alive(time.Now()) {
		before = Hold{} // of a hold that is over nothing is kept
	}
	next := before.merge(h)
	if _, err = r.kv.Update(ctx, string(k), next.encode(), current.Revision()); err == nil {
		r.wrote(k, next)
	}
	return err
}

func (r *Registry) wrote(k Key, h Hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.states[k]; s != nil && !s.over {
		s.published = h.Until
	}
}
