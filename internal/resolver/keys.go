package resolver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/seal"
)

const (
	// keyAge is how long a key is kept in memory, and at most in use after it was
	// replaced; keyErrorAge is how long a failure is.
	keyAge, keyErrorAge = time.Minute, time.Second
	// maxKeys bounds how many are kept. Beyond it some are read again.
	maxKeys = 4096
)

// errAway stands for what the database said, which may name hosts and users.
var errAway = errors.New("the database did not answer")

// keyOf: a retry brings a new key for the requests of its generation.
type keyOf struct {
	batch      batch.ID
	generation int
}

type batchKey struct {
	key   string
	err   error
	until time.Time
}

// BatchKey returns the key that a batch brought for the requests of a
// generation. batch.ErrNotFound: it was removed. The text of any other error
// is safe to store.
func (r *Resolver) BatchKey(ctx context.Context, id batch.ID, generation int) (string, error) {
	of := keyOf{id, generation}
	if k, ok := r.known(of); ok {
		return k.key, k.err
	}
	got, _, _ := r.reading.Do(fmt.Sprint(id, generation), func() (any, error) {
		if k, ok := r.known(of); ok {
			return k, nil
		}
		k := r.readKey(ctx, id)
		r.keep(of, k)
		return k, nil
	})
	k, _ := got.(batchKey)
	return k.key, k.err
}

func (r *Resolver) known(of keyOf) (batchKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.keys[of]
	return k, ok && time.Now().Before(k.until)
}

func (r *Resolver) readKey(ctx context.Context, id batch.ID) batchKey {
	// Others wait for it too, whose calls are not cut off with this one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	sealed, err := r.cfg.Store.BatchKey(ctx, id)
	var key string
	switch {
	case err == nil:
		key, err = r.cfg.Keyring.Open(seal.BatchKey(id.String()), sealed)
	case !errors.Is(err, batch.ErrNotFound):
		r.cfg.Log.Warn("reading the API key of a batch", "batch_id", id, "err", err)
		err = errAway
	}
	if err != nil {
		return batchKey{err: err, until: time.Now().Add(keyErrorAge)}
	}
	return batchKey{key: key, until: time.Now().Add(keyAge)}
}

func (r *Resolver) keep(of keyOf, k batchKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.keys {
		if len(r.keys) < maxKeys {
			break
		}
		delete(r.keys, other)
	}
	r.keys[of] = k
}

// forget drops the keys that are too old.
func (r *Resolver) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for of, k := range r.keys {
		if now.After(k.until) {
			delete(r.keys, of)
		}
	}
}
