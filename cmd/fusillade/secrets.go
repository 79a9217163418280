package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

type secretsCmd struct {
	Reencrypt secretsReencryptCmd `cmd:"" help:"Encrypt everything with the first key of FUSILLADE_ENCRYPTION_KEY that another one of its keys encrypted."`

	DataDir string `placeholder:"DIR" help:"The data directory of fusillade serve, which must not be running. Not used where FUSILLADE_DATABASE_URL is set. Default: a directory for your user."`
}

// openBox is the box of the keys in the environment; nil: there are none.
func openBox() (*seal.Keyring, error) {
	cfg, err := loadSettings()
	if err != nil {
		return nil, err
	}
	return seal.New(cfg.Encryption.Key.All()...)
}

type secretsReencryptCmd struct{}

// Run goes on after what it cannot decrypt. A crash leaves some of it with the
// key that it had; both open.
func (secretsReencryptCmd) Run(ctx context.Context, t *terminal, c *secretsCmd) error {
	box, err := openBox()
	if err != nil {
		return err
	}
	if box == nil {
		return usage(errors.New("FUSILLADE_ENCRYPTION_KEY is not set: it must hold the new key, and the old ones after it"))
	}
	return withStore(ctx, c.DataDir, func(s *postgres.Store) error {
		r := &reencryption{store: s, box: box, terminal: t}
		for _, what := range []func(context.Context) error{r.models, r.webhooks, r.batches} {
			if err := what(ctx); err != nil {
				return err
			}
		}
		t.say("%d encrypted anew, %d were already", r.done, r.already)
		if r.left > 0 {
			return &exitError{exitFailed, fmt.Errorf("%d are left as they were: keep their key, set them again, or run this again if they changed meanwhile", r.left)}
		}
		return nil
	})
}

type reencryption struct {
	store               *postgres.Store
	box                 *seal.Keyring
	terminal            *terminal
	done, already, left int
}

// one encrypts one secret anew, if replace finds it as it was.
func (r *reencryption) one(name, about string, sealed []byte, replace func(sealed []byte) (bool, error)) error {
	again, err := r.box.Reseal(about, sealed)
	switch {
	case err != nil:
		r.left++
		r.terminal.say("%s: %v", name, err)
		return nil
	case again == nil:
		r.already++
		return nil
	}
	replaced, err := replace(again)
	switch {
	case err != nil:
		return err
	case replaced:
		r.done++
	default:
		r.left++
		r.terminal.say("%s: it changed or was removed meanwhile", name)
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
		if u.Key == nil {
			continue
		}
		err := r.one(fmt.Sprintf("API key of model %q", model), seal.ModelKey(string(model), u.URL), u.Key, func(sealed []byte) (bool, error) {
			return r.store.ReplaceModelKey(ctx, model, u.Key, sealed)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reencryption) webhooks(ctx context.Context) error {
	all, err := r.store.Webhooks(ctx)
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

func (r *reencryption) batches(ctx context.Context) error {
	for after := (batch.ID{}); ; {
		keys, err := r.store.BatchKeys(ctx, after, keysPage)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, k := range keys {
			err := r.one("API key of "+k.Batch.String(), seal.BatchKey(k.Batch.String()), k.Sealed, func(sealed []byte) (bool, error) {
				return r.store.ReplaceBatchKey(ctx, k.Batch, k.Sealed, sealed)
			})
			if err != nil {
				return err
			}
		}
		after = keys[len(keys)-1].Batch
	}
}
