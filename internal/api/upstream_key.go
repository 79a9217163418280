package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

const (
	// headerUpstreamKey is the API key that a batch's calls are to bear.
	headerUpstreamKey   = "X-Upstream-Api-Key"
	maxUpstreamKeyBytes = 4096
	codeNoEncryption    = "encryption_not_configured"
	// cleanTimeout bounds what follows an answer that is decided.
	cleanTimeout = 5 * time.Second
)

// upstreamKey returns what encrypts the key that the request brings; nil: it
// brings none. No error repeats any of the key.
func (s *Server) upstreamKey(c *call) (func(batch.ID) ([]byte, error), error) {
	values := c.Header.Values(headerUpstreamKey)
	if len(values) == 0 {
		return nil, nil
	}
	key := values[0]
	switch {
	case len(values) > 1 || key == "" || len(key) > maxUpstreamKeyBytes || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, invalid(headerUpstreamKey, codeInvalid, "%s must be one key of 1 to %d printable ASCII characters without blanks.", headerUpstreamKey, maxUpstreamKeyBytes)
	case s.cfg.Keyring == nil:
		return nil, invalid(headerUpstreamKey, codeNoEncryption, "This server stores no API keys: its FUSILLADE_ENCRYPTION_KEY is not set.")
	}
	return func(id batch.ID) ([]byte, error) { return s.cfg.Keyring.Seal(seal.BatchKey(id.String()), key) }, nil
}

// renewKey gives a batch that brought a key the request's one. One that has
// ended has none left, and cannot be retried without.
func (s *Server) renewKey(c *call, b postgres.Batch) error {
	encrypt, err := s.upstreamKey(c)
	switch {
	case err != nil:
		return err
	case encrypt == nil && b.HasOwnKey && b.Status.Terminal():
		return invalid(headerUpstreamKey, codeMissing, "The batch was created with an API key, which was removed when it ended: give %s again.", headerUpstreamKey)
	case encrypt == nil:
		return nil
	case !b.HasOwnKey:
		return invalid(headerUpstreamKey, codeInvalid, "The batch was created without an API key of its own, so none can be given to it.")
	}
	sealed, err := encrypt(b.ID)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.SetBatchKey(c.Context(), b.ID, sealed); !errors.Is(err, batch.ErrNotFound) {
		return err
	}
	return nil // deleted meanwhile, as the retry finds out
}

// dropKey removes the key of a batch that was not retried after all. A crash
// before it leaves the key, encrypted, until the batch ends again or is purged.
func (s *Server) dropKey(c *call, b postgres.Batch) {
	if !b.HasOwnKey {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), cleanTimeout)
	defer cancel()
	if err := s.cfg.Store.DropBatchKey(ctx, b.ID); err != nil {
		s.cfg.Log.Warn("removing the key of a batch that was not retried", "batch_id", b.ID, "err", err)
	}
}
