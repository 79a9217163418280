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
func (b *Resolver) BatchKey(ctx context.Context, id batch.ID, generation int) (string, error) {
	of := keyOf{id, generation}
	if k, ok := b.known(of); ok {
		return k.key, k.err
	}
	got, _, _ := b.reading.Do(fmt.Sprint(id, generation), func() (any, error) {
		if k, ok := b.known(of); ok {
			return k, nil
		}
		k := b.readKey(ctx, id)
		b.keep(of, k)
		return k, nil
	})
	k, _ := got.(batchKey)
	return k.key, k.err
}

func (b *Resolver) known(of keyOf) (batchKey, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.keys[of]
	return k, ok && time.Now().Before(k.until)
}

func (b *Resolver) readKey(ctx context.Context, id batch.ID) batchKey {
	// Others wait for it too, whose calls are not cut off with this one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	sealed, err := b.cfg.Store.BatchKey(ctx, id)
	var key string
	switch {
	case err == nil:
		key, err = b.cfg.Keyring.Open(seal.BatchKey(id.String()), sealed)
	case !errors.Is(err, batch.ErrNotFound):
		b.cfg.Log.Warn("reading the API key of a batch", "batch_id", id, "err", err)
		err = errAway
	}
	if err != nil {
		return batchKey{err: err, until: time.Now().Add(keyErrorAge)}
	}
	return batchKey{key: key, until: time.Now().Add(keyAge)}
}

func (b *Resolver) keep(of keyOf, k batchKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for other := range b.keys {
		if len(b.keys) < maxKeys {
			break
		}
		delete(b.keys, other)
	}
	b.keys[of] = k
}

// forget drops the keys that are too old.
func (b *Resolver) forget(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for of, k := range b.keys {
		if now.After(k.until) {
			delete(b.keys, of)
		}
	}
}
