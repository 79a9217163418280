package operator

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

// Reencryption is how many secrets Reencrypt dealt with.
type Reencryption struct {
	Done    int // encrypted with the first key now
	Already int // were so before
	Left    int // could not be, or changed meanwhile
}

// Reencrypt encrypts with the first key every secret that another key
// encrypted. It goes on after what it cannot decrypt, and notes it. A
// crash leaves some of them with the key that they had; both open.
func Reencrypt(ctx context.Context, s *postgres.Store, keys *seal.Keyring, note func(format string, args ...any)) (Reencryption, error) {
	r := &reencryption{store: s, keys: keys, note: note}
	for _, kind := range []func(context.Context) error{r.models, r.webhooks, r.batchKeys, r.fingerprints} {
		if err := kind(ctx); err != nil {
			return r.Reencryption, err
		}
	}
	return r.Reencryption, nil
}

type reencryption struct {
	Reencryption
	store *postgres.Store
	keys  *seal.Keyring
	note  func(format string, args ...any)
}

// one encrypts one secret anew, if replace finds it as it was.
func (r *reencryption) one(name, binding string, sealed []byte, replace func(sealed []byte) (bool, error)) error {
	again, err := r.keys.Reseal(binding, sealed)
	switch {
	case err != nil:
		r.Left++
		r.note("%s: %v", name, err)
		return nil
	case again == nil:
		r.Already++
		return nil
	}
	replaced, err := replace(again)
	switch {
	case err != nil:
		return err
	case replaced:
		r.Done++
	default:
		r.Left++
		r.note("%s: it changed or was removed meanwhile", name)
	}
	return nil
}

func (r *reencryption) models(ctx context.Context) error {
	all, err := r.store.ModelUpstreams(ctx)
	if err != nil {
		return err
	}
	for _, model := range slices.Sorted(maps.Keys(all)) {
		u := all[model]
		for _, secret := range []struct {
			name, binding string
			sealed        []byte
			replace       func(ctx context.Context, model batch.Model, old, sealed []byte) (bool, error)
		}{
			{"API key", seal.ModelKey(string(model), u.URL, u.Options), u.Key, r.store.ReplaceModelKey},
			{"headers", seal.ModelHeaders(string(model), u.URL, u.Options), u.Headers, r.store.ReplaceModelHeaders},
		} {
			if secret.sealed == nil {
				continue
			}
			err := r.one(fmt.Sprintf("%s of model %q", secret.name, model), secret.binding, secret.sealed, func(sealed []byte) (bool, error) {
				return secret.replace(ctx, model, secret.sealed, sealed)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reencryption) webhooks(ctx context.Context) error {
	all, err := r.store.WebhooksWithSecrets(ctx)
	if err != nil {
		return err
	}
	for _, w := range all {
		err := r.one("secret of webhook "+w.ID, seal.WebhookSecret(w.ID, w.URL), w.Secret, func(sealed []byte) (bool, error) {
			return r.store.ReplaceWebhookSecret(ctx, w.ID, w.Secret, sealed)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keysPage is how many keys of batches are read at a time.
const keysPage = 1000

func (r *reencryption) batchKeys(ctx context.Context) error {
	return r.batches(ctx, "API key of ", seal.BatchKey, r.store.BatchKeys, r.store.ReplaceBatchKey)
}

// fingerprints of keys are compared when a batch is created again under its
// idempotency key, also after the key itself was removed.
func (r *reencryption) fingerprints(ctx context.Context) error {
	return r.batches(ctx, "fingerprint of the API key of ", seal.BatchKeyFingerprint, r.store.KeyFingerprints, r.store.ReplaceKeyFingerprint)
}

func (r *reencryption) batches(
	ctx context.Context, what string, binding func(batchID string) string,
	list func(ctx context.Context, after batch.ID, n int) ([]postgres.SealedKey, error),
	replace func(ctx context.Context, id batch.ID, old, sealed []byte) (bool, error),
) error {
	for after := (batch.ID{}); ; {
		keys, err := list(ctx, after, keysPage)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, k := range keys {
			err := r.one(what+k.Batch.String(), binding(k.Batch.String()), k.Sealed, func(sealed []byte) (bool, error) {
				return replace(ctx, k.Batch, k.Sealed, sealed)
			})
			if err != nil {
				return err
			}
		}
		after = keys[len(keys)-1].Batch
	}
}
