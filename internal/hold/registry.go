package hold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/streams"
)

const (
	// pollInterval is how often what the watch may have missed is looked for. A
	// watch is blind for a while after the broker was restarted.
	pollInterval = 2 * time.Second
	opTimeout    = 2 * time.Second
	// minPublish is the pause between the writes of one process.
	minPublish = 100 * time.Millisecond
	// extension is by how much a hold must become longer to be told to others.
	extension  = time.Second
	defaultMax = 10 * time.Minute
)

// Config says how a Registry works. Conn and Log are required.
type Config struct {
	Conn *nats.Conn
	// Max is the longest hold; 0: 10 min.
	Max time.Duration
	// Changed is called, without a lock, when calls may begin again that could
	// not before, or claims; nil: nobody is told.
	Changed func()
	// Ramp: calls are made here, so they begin gently after a hold.
	Ramp bool
	// After is how many refusals in a row, with nothing else between them, place a
	// hold; 0: none do.
	After int
	// Probe is the pause before the first probe of what is refused; it doubles
	// with each, up to MaxProbe. 0: 5 s and 1 min.
	Probe, MaxProbe time.Duration
	Log             *slog.Logger
}

// Registry knows what is held. Its methods are safe for concurrent use, and but
// for Run none of them waits.
type Registry struct {
	cfg  Config
	kv   jetstream.KeyValue
	wake notify.Signal // to Run: there is something to publish
	held notify.Signal // to Run: there is an end to wait for

	// active is how many credentials are held or in their ramp: none is the rule,
	// and then Admit takes no lock.
	active atomic.Int64
	ahead  atomic.Int64 // the broker's clock, of this machine's; nanoseconds

	mu      sync.Mutex
	states  map[Key]*state
	pending map[Key]news // to be merged into the bucket

	// Of refusals; guarded by mu as well.
	doubts  atomic.Int64 // len(streaks) + refused: none is the rule, and then Answered takes no lock
	refused int          // states whose holds have a Cause
	streaks map[Key]streak
	lifting map[Key]bool // entries to be removed from the bucket
	// relapsed is when a hold that this process placed was lifted by an answer to
	// another one.
	relapsed map[Key]time.Time
}

// news is what a process has to tell of a credential.
type news struct {
	hold Hold
	// placed: its endpoint asked for a pause. Else there is only a model more to
	// name in the entry, and none is made if it was lifted meanwhile.
	placed bool
}

// state is one credential that is held, or was until a short while ago. It is
// guarded by Registry.mu.
type state struct {
	hold      Hold
	published time.Time // the until of the bucket's entry, as far as is known
	revision  uint64    // the latest that is known of the entry: earlier ones say nothing
	over      bool      // the hold has ended: in the ramp
	ramp      ramp
	probe     probe // of a hold with a Cause
	mine      bool  // this process placed it, for a Cause
	local     bool  // it is of this process alone
}

// New binds to the bucket.
func New(ctx context.Context, cfg Config) (*Registry, error) {
	if cfg.Conn == nil || cfg.Log == nil {
		return nil, errors.New("hold: Conn and Log are required")
	}
	cfg.Max = cmp.Or(cfg.Max, defaultMax)
	cfg.Probe, cfg.MaxProbe = cmp.Or(cfg.Probe, defaultProbe), cmp.Or(cfg.MaxProbe, defaultMaxProbe)
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("binding holds: %w", err)
	}
	r := newRegistry(cfg)
	if r.kv, err = js.KeyValue(ctx, streams.HoldsBucket); err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.HoldsBucket, err)
	}
	return r, nil
}

func newRegistry(cfg Config) *Registry {
	return &Registry{
		cfg: cfg, wake: notify.New(), held: notify.New(), states: make(map[Key]*state), pending: make(map[Key]news),
		streaks: make(map[Key]streak), lifting: make(map[Key]bool), relapsed: make(map[Key]time.Time),
	}
}

// Place holds a credential for a time, at most Config.Max: here at once, in other
// processes as soon as they see it. It reports whether it was not held already.
func (r *Registry) Place(k Key, h Hold, pause time.Duration) (placed bool) {
	now := time.Now().Round(0) // as others will read it
	h.Since, h.Until = now, now.Add(min(pause, r.cfg.Max))
	r.mu.Lock()
	s := r.states[k]
	if placed = s == nil || s.over; placed {
		r.cfg.Log.Warn("calls are held back as their endpoint asked", "models", h.Models, "status", h.Status,
			"own_key_of_batch", batchName(h.Batch), "until", h.Until.UTC())
		s = &state{hold: h}
		r.add(k, s)
	} else {
		s.hold = s.hold.merge(h)
	}
	if s.hold.Until.Sub(s.published) > extension {
		r.publish(k, s.hold, true)
	}
	r.mu.Unlock()
	r.wake.Notify()
	return placed
}

// Held reports whether the requests of a batch for a model are held. If they are
// not, and there is a probe, none but that may be claimed, after TakeOffer.
func (r *Registry) Held(model batch.Model, id batch.ID, hasOwnKey bool, owner string) (held bool, probe Key) {
	if r.active.Load() == 0 {
		return false, ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for k, s := range r.states {
		if s.over || !s.hold.Of(model, id, hasOwnKey, owner) {
			continue
		}
		if s.hold.Until.After(now) {
			return true, ""
		}
		if s.hold.Cause != "" {
			probe = k
		}
	}
	return false, probe
}

// Holds returns what is held.
func (r *Registry) Holds() []Hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Hold
	for _, s := range r.states {
		if !s.over {
			out = append(out, s.hold)
		}
	}
	return out
}

// publish needs the lock.
func (r *Registry) publish(k Key, h Hold, placed bool) {
	r.pending[k] = news{r.pending[k].hold.merge(h), placed || r.pending[k].placed}
	r.wake.Notify()
}

// add needs the lock, as remove does.
func (r *Registry) add(k Key, s *state) {
	r.remove(k)
	r.states[k] = s
	if s.hold.Cause != "" {
		r.refused++
	}
	r.count()
	r.held.Notify()
}

func (r *Registry) remove(k Key) {
	if s := r.states[k]; s != nil && s.hold.Cause != "" {
		r.refused--
	}
	delete(r.states, k)
	r.count()
}

func (r *Registry) count() {
	r.active.Store(int64(len(r.states)))
	r.doubts.Store(int64(len(r.streaks) + r.refused))
}

// end ends a hold: now the ramp begins, where there is one. There is none after a
// hold that an answer earned which was no refusal: the endpoint said when it takes
// more, and was not overloaded. It needs the lock.
func (r *Registry) end(k Key, s *state, now time.Time) {
	if answered := s.hold.Status >= http.StatusOK && s.hold.Status < http.StatusBadRequest; !r.cfg.Ramp || answered {
		r.remove(k)
		return
	}
	s.over, s.ramp = true, newRamp(now)
}

// Run keeps the registry in step with the bucket until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { r.watch(ctx) })
	all.Go(func() { r.write(ctx) })
	all.Go(func() { r.expire(ctx) })
	all.Wait()
}

// expire ends holds as their time comes, and forgets ramps. While there are none it
// waits for one.
func (r *Registry) expire(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.held.C():
		case <-timer.C:
		}
		now, next, changed := time.Now(), 250*time.Millisecond, false
		r.mu.Lock()
		for k, s := range r.states {
			switch {
			case s.over && s.ramp.over(now):
				r.remove(k)
				changed = true
			case s.over:
				changed = changed || s.ramp.refused // a canceled admission wakes nobody
				s.ramp.refused = false
			case s.hold.Cause != "":
				changed = r.expireRefused(k, s, now) || changed
			case !s.hold.Until.After(now):
				r.end(k, s, now)
				changed = true
			default:
				next = min(next, max(s.hold.Until.Sub(now), time.Millisecond))
			}
		}
		left := len(r.states)
		r.mu.Unlock()
		if changed {
			r.cfg.Changed()
		}
		if left > 0 {
			timer.Reset(next)
		}
	}
}
