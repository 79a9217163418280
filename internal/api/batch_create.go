package api

import (
	"context"
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
	maxWindow           = 5 * 365 * 24 * time.Hour
	anchorCreatedAt     = "created_at"
	headerIdempotency   = "Idempotency-Key"
	paramInputFile      = "input_file_id"
	paramWindow         = "completion_window"
	paramOutputExpiry   = "output_expires_after"
	codeKeyReused       = "idempotency_key_reused"
	codeEndpointDiffers = "mismatched_endpoint"
)

// newBatchParams are the body that creates a batch, and its headers.
type newBatchParams struct {
	body struct {
		InputFileID        string            `json:"input_file_id"`
		Endpoint           string            `json:"endpoint"`
		CompletionWindow   string            `json:"completion_window"`
		Metadata           map[string]string `json:"metadata"`
		Priority           *int              `json:"priority"`
		Budget             *budgetBody       `json:"budget"`
		OutputExpiresAfter *expiresAfter     `json:"output_expires_after"`
	}
	file           batch.FileID
	outputExpiry   time.Duration // 0: for ever
	priority       int
	budget         batch.Budget // without prices
	idempotencyKey string       // empty: none
	upstreamKey    string       // empty: none
}

type expiresAfter struct {
	Anchor  string `json:"anchor"`
	Seconds int64  `json:"seconds"`
}

// duration checks the time that a field gives.
func (e *expiresAfter) duration(in *input, field string) time.Duration {
	switch {
	case e == nil:
		return 0
	case e.Anchor != anchorCreatedAt:
		in.fail(invalid(field+".anchor", codeInvalid, "%s.anchor must be created_at.", field))
	case !validExpiry(e.Seconds):
		in.fail(invalid(field+".seconds", codeInvalid, "%s.seconds must be %s.", field, expiryRange))
	}
	return time.Duration(e.Seconds) * time.Second
}

func (p *newBatchParams) read(in *input) {
	in.json(&p.body, "metadata", "priority", paramBudget, paramBudgetTokens, paramBudgetCost, paramOutputExpiry)
	in.required(paramInputFile, p.body.InputFileID, maxIDBytes)
	in.required("endpoint", p.body.Endpoint, maxEndpointBytes)
	in.required(paramWindow, p.body.CompletionWindow, maxWindowBytes)
	checkMetadata(in, p.body.Metadata)
	p.priority = readPriority(in, p.body.Priority, p.body.Metadata)
	p.budget = readBudget(in, p.body.Budget, p.body.Metadata)
	p.outputExpiry = p.body.OutputExpiresAfter.duration(in, paramOutputExpiry)
	p.idempotencyKey = in.header(headerIdempotency, maxIdempotencyKey)
	p.upstreamKey = in.upstreamKey()
	var err error
	if p.file, err = batch.ParseFileID(p.body.InputFileID); err != nil {
		in.fail(missingFile(p.body.InputFileID))
	}
}

// createBatch creates a batch, or shows the one that was created under the same
// idempotency key, whatever became of its file since.
func (s *Server) createBatch(ctx context.Context, who caller, p newBatchParams) (batchObject, error) {
	if p.idempotencyKey != "" {
		id, err := s.cfg.Store.FindBatch(ctx, who.owner, p.idempotencyKey)
		if err == nil {
			return s.createdBefore(ctx, who, p, id)
		}
		if !errors.Is(err, batch.ErrNotFound) {
			return batchObject{}, err
		}
	}
	want, err := s.wantedBatch(ctx, who, p)
	if err != nil {
		return batchObject{}, err
	}
	id, created, err := s.cfg.Tracer.CreateBatch(ctx, func(ctx context.Context, traceContext string) (batch.ID, bool, error) {
		want.TraceContext = traceContext
		return s.cfg.Store.CreateBatch(ctx, want)
	})
	if err != nil {
		return batchObject{}, orMissingFile(err, p.body.InputFileID)
	}
	if !created { // the same was asked at the same time
		return s.createdBefore(ctx, who, p, id)
	}
	s.cfg.Wake() // a crash before it costs one claim interval
	b, err := s.cfg.Store.GetBatch(ctx, id, &who.owner)
	if err == nil {
		s.changed(who, "batch created", b, "file_id", b.File, "requests", b.Counts.Total, "deadline", b.ExpiresAt.UTC())
	}
	return asBatch(b), err
}

// createdBefore shows a batch that was created under the same idempotency key,
// if it was with the same parameters; of those that can be changed since, priority
// and budget, it says nothing.
func (s *Server) createdBefore(ctx context.Context, who caller, p newBatchParams, id batch.ID) (batchObject, error) {
	b, err := s.cfg.Store.GetBatch(ctx, id, &who.owner)
	if errors.Is(err, batch.ErrNotFound) {
		return batchObject{}, &apiError{status: http.StatusNotFound, kind: invalidRequest, param: headerIdempotency, code: codeNotFound,
			message: "The batch that was created with this Idempotency-Key was deleted. To create another, use another key."}
	}
	if err != nil {
		return batchObject{}, err
	}
	same, err := s.sameKey(ctx, b, p.upstreamKey)
	if err != nil {
		return batchObject{}, err
	}
	if !same || b.File != p.file || !isEndpoint(p.body.Endpoint, b.Endpoint) || b.CompletionWindow != p.body.CompletionWindow ||
		!maps.Equal(b.Metadata, p.body.Metadata) || b.OutputExpiry != p.outputExpiry {
		return batchObject{}, &apiError{status: http.StatusUnprocessableEntity, kind: "idempotency_error", code: codeKeyReused,
			message: "This Idempotency-Key was used before, with other parameters."}
	}
	return asBatch(b), nil
}

// wantedBatch is what the store is to create.
func (s *Server) wantedBatch(ctx context.Context, who caller, p newBatchParams) (want postgres.NewBatch, err error) {
	want = postgres.NewBatch{
		File: p.file, Endpoint: p.body.Endpoint, WindowText: p.body.CompletionWindow, Metadata: p.body.Metadata, CreatedBy: who.owner,
		IdempotencyKey: p.idempotencyKey, OutputExpiry: p.outputExpiry, Priority: p.priority, Allowance: who.allowance,
	}
	if want.CompletionWindow, err = s.cfg.ParseWindow(p.body.CompletionWindow); err != nil || want.CompletionWindow > maxWindow {
		return want, invalid(paramWindow, codeInvalid, "completion_window must be a time such as 90m, 24h or 7d, at most five years.")
	}
	if want.EncryptKey, err = s.encryptKey(p.upstreamKey); err != nil {
		return want, err
	}
	f, err := s.cfg.Store.GetFile(ctx, who.owner, p.file)
	if err != nil {
		return want, orMissingFile(err, p.body.InputFileID)
	}
	if !isEndpoint(p.body.Endpoint, f.Endpoint) {
		return want, invalid("endpoint", codeEndpointDiffers, "The requests of the file are for %s, not for %s.", f.Endpoint, quote(p.body.Endpoint))
	}
	want.Endpoint = f.Endpoint
	want.Budget, err = s.priced(ctx, p.budget, p.file)
	return want, err
}

func missingFile(id string) *apiError {
	e := notFound(kindFile, id)
	e.param = paramInputFile
	return e
}

func orMissingFile(err error, id string) error {
	if errors.Is(err, batch.ErrNotFound) {
		return missingFile(id)
	}
	return err
}

// readPriority reads a priority from its field, or from the metadata, which every
// client can send.
func readPriority(in *input, field *int, metadata map[string]string) int {
	text, given := metadata[batch.PriorityKey]
	n, err := 0, error(nil)
	if given {
		n, err = batch.ParsePriority(text)
	}
	switch {
	case err != nil:
		in.fail(invalid("metadata."+batch.PriorityKey, codeInvalid, "metadata.%s %v.", batch.PriorityKey, err))
		return 0
	case field == nil:
		return n
	case *field < -batch.MaxPriority || *field > batch.MaxPriority:
		in.fail(invalid("priority", codeInvalid, "priority %v.", batch.ErrPriority))
	case given && *field != n:
		in.fail(invalid("priority", codeInvalid, "priority is another one than metadata.%s.", batch.PriorityKey))
	}
	return *field
}

func checkMetadata(in *input, metadata map[string]string) {
	if len(metadata) > maxMetadata {
		in.fail(invalid("metadata", codeInvalid, "metadata has %d pairs; at most %d are allowed.", len(metadata), maxMetadata))
	}
	for key, value := range metadata {
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxMetadataKey:
			in.fail(invalid("metadata", codeInvalid, "metadata has the key %s; keys have 1 to %d characters.", quote(key), maxMetadataKey))
		case utf8.RuneCountInString(value) > maxMetadataValue:
			in.fail(invalid("metadata", codeInvalid, "metadata has, under %s, a value of more than %d characters.", quote(key), maxMetadataValue))
		case strings.Contains(key+value, "\x00"):
			in.fail(invalid("metadata", codeInvalid, "metadata has, under %s, a NUL character.", quote(key)))
		}
	}
}
