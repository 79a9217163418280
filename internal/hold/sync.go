package hold

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/backoff"
	"fusillade/streams"
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
	before := r.revisions()
	w, err := r.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	poll := time.NewTimer(pollInterval)
	defer poll.Stop()
	initial := make(map[Key]jetstream.KeyValueEntry)
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
				r.replace(initial, before)
				initial = nil
				pause.Reset()
			default:
				seen = max(seen, entry.Revision())
				if initial == nil {
					r.take(entry)
				} else {
					initial[Key(entry.Key())] = entry
				}
			}
		}
	}
}

// take takes over an entry, or what removed it.
func (r *Registry) take(entry jetstream.KeyValueEntry) {
	k := Key(entry.Key())
	if entry.Operation() != jetstream.KeyValuePut {
		r.lifted(k, entry.Revision(), entry.Operation() == jetstream.KeyValuePurge)
		return
	}
	h, err := decode(entry, r.brokerAhead())
	if err != nil {
		r.cfg.Log.Error("a hold is malformed and was dropped", "key", entry.Key(), "err", err)
		return
	}
	r.observe(k, h, entry.Revision())
}

// observe takes over the bucket's entry of a credential, unless a later revision
// is known: the watch may be behind what this process has written.
func (r *Registry) observe(k Key, h Hold, revision uint64) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if most := now.Add(max(r.cfg.Max, r.cfg.MaxProbe)); h.Until.After(most) {
		h.Until = most
	}
	s := r.states[k]
	switch {
	case !h.alive(now), r.lifting[k]:
		return // it ends, or has ended, by itself
	case s != nil && (revision < s.revision || s.over && revision == s.revision):
		return
	case s == nil || s.over:
		r.add(k, &state{hold: h, published: h.Until, revision: revision})
		return
	case h.Cause != "":
		r.observeRefused(s, h, now)
	default:
		s.published = h.Until
		s.hold = s.hold.merge(h)
	}
	s.revision = revision
}

// lifted ends the hold of a credential whose entry was removed by the revision,
// answered: since a call got an answer. One of which the bucket does not know yet
// goes on, and so does one that was written later.
func (r *Registry) lifted(k Key, revision uint64, answered bool) {
	now := time.Now()
	r.mu.Lock()
	s := r.states[k]
	if s != nil && revision < s.revision {
		r.mu.Unlock()
		return
	}
	delete(r.streaks, k)
	ends := s != nil && !s.over && !r.pending[k].placed && !s.published.IsZero()
	if ends && answered && s.mine {
		r.relapse(k, now)
	}
	if s != nil {
		s.revision = revision
	}
	if ends {
		r.end(k, s, now)
	}
	r.mu.Unlock()
	if ends {
		r.cfg.Changed()
	}
}

// revisions are those that are known of each entry.
func (r *Registry) revisions() map[Key]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := make(map[Key]uint64, len(r.states))
	for k, s := range r.states {
		known[k] = s.revision
	}
	return known
}

// replace takes over all of the bucket, as a watch found it that began when the
// revisions before were known. What this process has written since is not among
// it, and is sent later.
func (r *Registry) replace(all map[Key]jetstream.KeyValueEntry, before map[Key]uint64) {
	var missing []Key
	r.mu.Lock()
	for k, s := range r.states {
		if s.revision != before[k] {
			continue
		}
		s.revision = 0 // it may be of a bucket that was lost; a new one counts from 1
		if _, ok := all[k]; !ok {
			missing = append(missing, k)
		}
	}
	r.mu.Unlock()
	for _, entry := range all {
		r.take(entry)
	}
	for _, k := range missing {
		r.lifted(k, 0, false)
	}
}

func (r *Registry) lastRevision(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	info, err := streams.BucketInfo(ctx, r.kv)
	if err != nil {
		return 0, err
	}
	r.ahead.Store(int64(ahead(info, time.Now())))
	return info.State.LastSeq, nil
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
		if !streams.LostRace(err) { // else another process was faster
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
		revision, err := r.kv.Create(ctx, string(k), h.encode(time.Now()))
		if err == nil {
			r.wrote(k, h, revision)
		}
		return err
	}
	if err != nil {
		return err
	}
	before, err := decode(current, r.brokerAhead())
	if err != nil || !before.alive(time.Now()) {
		before = Hold{} // of a hold that is over nothing is kept
	}
	next := before.merge(h)
	revision, err := r.kv.Update(ctx, string(k), next.encode(time.Now()), current.Revision())
	if err == nil {
		r.wrote(k, next, revision)
	}
	return err
}

func (r *Registry) wrote(k Key, h Hold, revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.states[k]
	if s == nil {
		return
	}
	s.revision = max(s.revision, revision)
	if !s.over {
		s.published = h.Until
	}
}

// ahead is by how much the broker's clock is ahead of this machine's, less the time
// that the answer was on its way.
func ahead(info *jetstream.StreamInfo, now time.Time) time.Duration { return info.TimeStamp.Sub(now) }

// brokerAhead is the same as it was last measured.
func (r *Registry) brokerAhead() time.Duration { return time.Duration(r.ahead.Load()) }
