package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

const (
	// headerUpstreamKey has the API key that a batch's calls are made with.
	headerUpstreamKey = "X-Upstream-Api-Key"
	codeNoEncryption  = "encryption_not_configured"
	// cleanTimeout bounds what follows an answer that is decided.
	cleanTimeout = 5 * time.Second
)

// upstreamKey returns the API key for the model endpoint that the request has;
// empty: none. No error repeats any of the key.
func (in *input) upstreamKey() string {
	values := in.Header.Values(headerUpstreamKey)
	if len(values) == 0 {
		return ""
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > maxUpstreamKeyBytes || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		in.fail(invalid(headerUpstreamKey, codeInvalid, "%s must be one key of 1 to %d printable ASCII characters without blanks.", headerUpstreamKey, maxUpstreamKeyBytes))
	}
	return key
}

// encryptKey returns what encrypts a key for a batch; nil: there is none.
func (s *Server) encryptKey(key string) (func(batch.ID) (postgres.SealedBatchKey, error), error) {
	switch {
	case key == "":
		return nil, nil
	case s.cfg.Keyring == nil:
		return nil, invalid(headerUpstreamKey, codeNoEncryption, "This server stores no API keys: its FUSILLADE_ENCRYPTION_KEY is not set.")
	}
	return func(id batch.ID) (sealed postgres.SealedBatchKey, err error) {
		if sealed.Key, err = s.cfg.Keyring.Seal(seal.BatchKey(id.String()), key); err != nil {
			return sealed, err
		}
		sealed.Fingerprint, err = s.cfg.Keyring.Seal(seal.BatchKeyFingerprint(id.String()), fingerprint(key))
		return sealed, err
	}, nil
}

// fingerprint is as good as the key to tell it from others, and of no other use.
func fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return string(sum[:])
}

// sameKey reports whether a batch was created with this key; empty: with none.
// A fingerprint of which the encryption key was retired says nothing, and the
// keys are taken for the same.
func (s *Server) sameKey(ctx context.Context, b postgres.Batch, key string) (bool, error) {
	if !b.HasOwnKey || key == "" {
		return b.HasOwnKey == (key != ""), nil
	}
	sealed, err := s.cfg.Store.KeyFingerprint(ctx, b.ID)
	if err != nil || sealed == nil {
		return true, err
	}
	known, err := s.cfg.Keyring.Open(seal.BatchKeyFingerprint(b.ID.String()), sealed)
	if err != nil {
		s.cfg.Log.Warn("the fingerprint of a batch's key cannot be decrypted", "batch_id", b.ID, "err", err)
		return true, nil
	}
	return subtle.ConstantTimeCompare([]byte(known), []byte(fingerprint(key))) == 1, nil
}

// renewKey gives a batch with a key of its own another. One that has finished
// has none left, and cannot be rerun without.
func (s *Server) renewKey(ctx context.Context, b postgres.Batch, key string) error {
	encrypt, err := s.encryptKey(key)
	switch {
	case err != nil:
		return err
	case encrypt == nil && b.HasOwnKey && b.Status.Terminal():
		return invalid(headerUpstreamKey, codeMissing, "The batch was created with an API key, which was removed when the batch finished: send %s again.", headerUpstreamKey)
	case encrypt == nil:
		return nil
	case !b.HasOwnKey:
		return invalid(headerUpstreamKey, codeInvalid, "The batch was created without an API key of its own, so it can get none.")
	}
	sealed, err := encrypt(b.ID)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.SetBatchKey(ctx, b.ID, sealed.Key); !errors.Is(err, batch.ErrNotFound) {
		return err
	}
	return nil // deleted meanwhile, as the rerun finds out
}

// dropKey removes the key of a batch that was not rerun after all. A crash
// before it leaves the key, encrypted, until the batch finishes again or is
// purged.
func (s *Server) dropKey(ctx context.Context, b postgres.Batch) {
	if !b.HasOwnKey {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if err := s.cfg.Store.DropBatchKey(ctx, b.ID); err != nil {
		s.cfg.Log.Warn("the key of a batch that was not rerun could not be removed", "batch_id", b.ID, "err", err)
	}
}
