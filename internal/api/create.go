package api

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	maxMetadata         = 16
	maxMetadataKey      = 64  // characters
	maxMetadataValue    = 512 // characters
	maxIdempotencyKey   = 255 // bytes
	maxWindow           = 5 * 365 * 24 * time.Hour
	anchorCreatedAt     = "created_at"
	headerIdempotency   = "Idempotency-Key"
	paramInputFile      = "input_file_id"
	paramWindow         = "completion_window"
	paramOutputExpiry   = "output_expires_after"
	codeMissing         = "missing_parameter"
	codeInvalid         = "invalid_value"
	codeKeyReused       = "idempotency_key_reused"
	codeEndpointDiffers = "mismatched_endpoint"
)

// newBatch is the body that creates a batch.
type newBatch struct {
	InputFileID        string            `json:"input_file_id"`
	Endpoint           string            `json:"endpoint"`
	CompletionWindow   string            `json:"completion_window"`
	Metadata           map[string]string `json:"metadata"`
	OutputExpiresAfter *expiresAfter     `json:"output_expires_after"`
}

type expiresAfter struct {
	Anchor  string `json:"anchor"`
	Seconds int64  `json:"seconds"`
}

func (s *Server) createBatch(c *call) (any, error) {
	var n newBatch
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	want, err := s.checkBatch(c, n)
	if err != nil {
		return nil, err
	}
	id, created, err := s.cfg.Store.CreateBatch(c.Context(), want)
	if err != nil {
		return nil, orMissingFile(err, n.InputFileID)
	}
	b, err := s.cfg.Store.GetBatch(c.Context(), id, &c.owner)
	if err != nil {
		return nil, err
	}
	if !created && !sameBatch(b, want) {
		return nil, &apiError{status: http.StatusUnprocessableEntity, kind: "idempotency_error", code: codeKeyReused,
			message: "This Idempotency-Key was used before, with other parameters."}
	}
	if created {
		s.cfg.Wake() // a crash before it costs one claim interval
	}
	return asObject(b), nil
}

func sameBatch(b postgres.Batch, n postgres.NewBatch) bool {
	return b.HasOwnKey == (n.EncryptKey != nil) && b.File == n.File && b.Endpoint == n.Endpoint && b.CompletionWindow == n.WindowText && maps.Equal(b.Metadata, n.Metadata)
}

// checkBatch turns the body into what the store takes.
func (s *Server) checkBatch(c *call, n newBatch) (want postgres.NewBatch, err error) {
	for _, field := range []struct{ name, value string }{
		{paramInputFile, n.InputFileID}, {"endpoint", n.Endpoint}, {paramWindow, n.CompletionWindow},
	} {
		if field.value == "" {
			return want, invalid(field.name, codeMissing, "Missing required parameter: '%s'.", field.name)
		}
	}
	want = postgres.NewBatch{
		Endpoint: n.Endpoint, WindowText: n.CompletionWindow, Metadata: n.Metadata, CreatedBy: c.owner,
		IdempotencyKey: c.Header.Get(headerIdempotency), Allowance: c.allowance,
	}
	if want.CompletionWindow, err = s.cfg.ParseWindow(n.CompletionWindow); err != nil || want.CompletionWindow > maxWindow {
		return want, invalid(paramWindow, codeInvalid, "completion_window must be a time such as 90m, 24h or 7d, at most five years.")
	}
	if err := checkMetadata(n.Metadata); err != nil {
		return want, err
	}
	if key := want.IdempotencyKey; len(key) > maxIdempotencyKey || !utf8.ValidString(key) {
		return want, invalid(headerIdempotency, codeInvalid, "Idempotency-Key must be text of at most %d bytes.", maxIdempotencyKey)
	}
	if want.EncryptKey, err = s.upstreamKey(c); err != nil {
		return want, err
	}
	if e := n.OutputExpiresAfter; e != nil {
		if e.Anchor != anchorCreatedAt {
			return want, invalid(paramOutputExpiry+".anchor", codeInvalid, "output_expires_after.anchor must be created_at.")
		}
		if !validExpiry(e.Seconds) {
			return want, invalid(paramOutputExpiry+".seconds", codeInvalid, "output_expires_after.seconds must be %s.", expiryRange)
		}
		want.OutputExpiry = time.Duration(e.Seconds) * time.Second
	}
	if want.File, err = batch.ParseFileID(n.InputFileID); err != nil {
		return want, missingFile(n.InputFileID)
	}
	f, err := s.cfg.Store.GetFile(c.Context(), c.owner, want.File)
	if err != nil {
		return want, orMissingFile(err, n.InputFileID)
	}
	if f.Endpoint != n.Endpoint {
		return want, invalid("endpoint", codeEndpointDiffers, "The requests of the file are for %s, not for %s.", f.Endpoint, shown(n.Endpoint))
	}
	return want, nil
}

func missingFile(id string) *apiError {
	e := notFound("File object", id)
	e.param = paramInputFile
	return e
}

func orMissingFile(err error, id string) error {
	if errors.Is(err, batch.ErrNotFound) {
		return missingFile(id)
	}
	return err
}

func checkMetadata(metadata map[string]string) error {
	if len(metadata) > maxMetadata {
		return invalid("metadata", codeInvalid, "metadata has %d pairs; at most %d are allowed.", len(metadata), maxMetadata)
	}
	for key, value := range metadata {
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxMetadataKey:
			return invalid("metadata", codeInvalid, "metadata has the key %s; keys have 1 to %d characters.", shown(key), maxMetadataKey)
		case utf8.RuneCountInString(value) > maxMetadataValue:
			return invalid("metadata", codeInvalid, "metadata has, under %s, a value of more than %d characters.", shown(key), maxMetadataValue)
		case strings.Contains(key+value, "\x00"):
			return invalid("metadata", codeInvalid, "metadata has, under %s, a NUL character.", shown(key))
		}
	}
	return nil
}
