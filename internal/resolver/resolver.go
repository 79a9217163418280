package resolver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/singleflight"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

const (
	defaultInterval = 5 * time.Second
	readTimeout     = 5 * time.Second
	// askAgain is how old what is known must be for a model without an endpoint
	// to be looked up at once: its operator may just have set one.
	askAgain = time.Second
)

// store is where operators' settings and batches' keys are.
type store interface {
	ModelUpstreams(ctx context.Context) (map[batch.Model]postgres.ModelUpstream, error)
	BatchKey(ctx context.Context, id batch.ID) ([]byte, error)
}

// Config says what a Resolver reads. Store, Conn, Default and Log are required.
type Config struct {
	Store store
	Conn  *nats.Conn
	// Keyring decrypts; nil: there is no key, and what is encrypted cannot be used.
	Keyring *seal.Keyring
	// Default is what the environment says of a model; an empty BaseURL: nothing.
	Default func(batch.Model) upstream.Target
	// Interval is how often to look for changes whose hint was lost; 0: 5 s.
	Interval time.Duration
	Log      *slog.Logger
}

// Resolver is safe for concurrent use.
type Resolver struct {
	cfg     Config
	reading singleflight.Group
	models  atomic.Pointer[models]

	mu   sync.Mutex
	keys map[keyOf]batchKey
}

// models is what was read at a time. It is not changed once it is made.
type models struct {
	read time.Time
	of   map[batch.Model]upstream.Target
}

// New returns a Resolver that is empty until Load.
func New(cfg Config) (*Resolver, error) {
	if cfg.Store == nil || cfg.Conn == nil || cfg.Default == nil || cfg.Log == nil {
		return nil, errors.New("resolver: Store, Conn, Default and Log are required")
	}
	cfg.Interval = cmp.Or(cfg.Interval, defaultInterval)
	r := &Resolver{cfg: cfg, keys: make(map[keyOf]batchKey)}
	r.models.Store(&models{})
	return r, nil
}

// Run keeps up with changes until ctx ends. Without an answer from the database
// what is known stays in force.
func (r *Resolver) Run(ctx context.Context) {
	changed := notify.New()
	sub, err := r.cfg.Conn.Subscribe(streams.HintUpstreams, func(*nats.Msg) { changed.Notify() })
	if err != nil {
		r.cfg.Log.Warn("listening for changes of upstreams; they are polled for", "err", err)
	} else {
		defer func() { _ = sub.Unsubscribe() }()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed.C():
		case <-time.After(backoff.Jitter(r.cfg.Interval)):
		}
		if err := r.Load(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("reading upstreams", "err", err)
		}
		r.forget(time.Now())
	}
}

// Load reads what operators have set.
func (r *Resolver) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	began := time.Now()
	set, err := r.cfg.Store.ModelUpstreams(ctx)
	if err != nil {
		return err
	}
	before := r.models.Load()
	now := &models{read: began, of: make(map[batch.Model]upstream.Target, len(set))}
	for model, u := range set {
		to := r.open(model, u)
		now.of[model] = to
		if to.Unusable != "" && to.Unusable != before.of[model].Unusable {
			r.cfg.Log.Error("a model's endpoint cannot be used; its requests wait", "model", model, "why", to.Unusable)
		}
	}
	// Of two that read at once the later one wins.
	for !r.models.CompareAndSwap(before, now) {
		if before = r.models.Load(); before.read.After(now.read) {
			break
		}
	}
	return nil
}

// find is what is known of a model.
func (r *Resolver) find(model batch.Model) upstream.Target {
	if set, ok := r.models.Load().of[model]; ok {
		return set
	}
	return r.cfg.Default(model)
}

// Resolve returns where a model's calls go; false: nowhere.
func (r *Resolver) Resolve(model batch.Model) (upstream.Target, bool) {
	to := r.find(model)
	if to.BaseURL == "" && time.Since(r.models.Load().read) > askAgain {
		_, err, _ := r.reading.Do("models", func() (any, error) { return nil, r.Load(context.Background()) })
		if err != nil {
			to.Unusable = "where the model's calls go could not be looked up"
			return to, true
		}
		to = r.find(model)
	}
	return to, to.BaseURL != ""
}
