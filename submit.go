package fusillade

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/internal/survey"
	"fusillade/streams"
)

// Request is one call of a batch.
type Request struct {
	CustomID string // unique in its batch; required
	// Endpoint is the path of the call; default /v1/chat/completions.
	Endpoint string
	// Body is encoded as JSON: an object with a model.
	Body any
}

// SubmitOptions are what a batch is made with. The zero value is usable.
type SubmitOptions struct {
	Name             string            // of the input, for people; default requests.jsonl
	CompletionWindow time.Duration     // what is not called by then expires; default 24 h
	Metadata         map[string]string // kept with the batch
	Priority         int               // from -100 to 100: among the owner's batches the highest comes first
	// BudgetTokens and BudgetCost are the most that the batch may use: tokens of prompts
	// and completions, and money by Config.ModelPrices, such as 12.50. When one of them
	// is spent, calls in flight end and the rest is canceled. Zero: no such bound.
	BudgetTokens int64
	BudgetCost   string
	// IdempotencyKey makes a second submit with it return the first one's batch.
	IdempotencyKey string
}

// InvalidInputError says which lines of an input are bad; nothing of it was kept.
type InvalidInputError struct {
	Lines []string // the first hundred, each with its number and what is wrong
	Total int
}

// Error names the first bad line.
func (e *InvalidInputError) Error() string {
	return fmt.Sprintf("the input has %d bad lines; the first: %s", e.Total, e.Lines[0])
}

const (
	defaultName     = "requests.jsonl"
	defaultWindow   = 24 * time.Hour
	defaultEndpoint = "/v1/chat/completions"
	// maxWindow is the longest completion window, as of the HTTP API.
	maxWindow = 5 * 366 * 24 * time.Hour
)

func (o SubmitOptions) newBatch(owner string) (postgres.NewBatch, error) {
	window := cmp.Or(o.CompletionWindow, defaultWindow)
	switch {
	case window < 0 || window > maxWindow:
		return postgres.NewBatch{}, fmt.Errorf("CompletionWindow must be from 0 to %v", maxWindow)
	case o.Priority < -batch.MaxPriority || o.Priority > batch.MaxPriority:
		return postgres.NewBatch{}, fmt.Errorf("Priority %w", batch.ErrPriority)
	case o.BudgetTokens < 0 || o.BudgetTokens > batch.MaxBudgetTokens:
		return postgres.NewBatch{}, fmt.Errorf("BudgetTokens %w", batch.ErrBudgetTokens)
	}
	budget := batch.Budget{Tokens: o.BudgetTokens}
	if o.BudgetCost != "" {
		var err error
		if budget.Cost, err = batch.ParseBudgetCost(o.BudgetCost); err != nil {
			return postgres.NewBatch{}, fmt.Errorf("BudgetCost %w", err)
		}
	}
	return postgres.NewBatch{
		CompletionWindow: window, WindowText: windowText(window), Metadata: o.Metadata, CreatedBy: owner,
		Priority: o.Priority, IdempotencyKey: o.IdempotencyKey, Budget: budget,
	}, nil
}

// priced gives a budget in money the prices of a file's models.
func (f *Fusillade) priced(budget batch.Budget, file batch.FileSummary) (batch.Budget, error) {
	models := make([]batch.Model, len(file.Models))
	for i, m := range file.Models {
		models[i] = m.Model
	}
	budget, err := budget.WithPrices(batch.Prices(f.settings.ModelPrices), models)
	if err != nil {
		return budget, fmt.Errorf("submitting: BudgetCost: %w; Config.ModelPrices sets it", err)
	}
	return budget, nil
}

// windowText spells a window as the HTTP API does.
func windowText(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// SubmitFile makes a batch of a file of requests, one JSON object per line, in
// constant memory. It returns an *InvalidInputError for one that is not good.
func (f *Fusillade) SubmitFile(ctx context.Context, input io.Reader, o SubmitOptions) (BatchID, error) {
	n, err := o.newBatch(f.cfg.Owner)
	if err != nil {
		return BatchID{}, fmt.Errorf("submitting: %w", err)
	}
	if o.IdempotencyKey != "" {
		id, err := f.resources.Store.FindBatch(ctx, n.CreatedBy, o.IdempotencyKey)
		if !errors.Is(err, batch.ErrNotFound) {
			return BatchID(id), err
		}
	}
	reader, err := jsonl.NewReader(input, jsonl.Config{AllowMixedEndpoints: true, Survey: survey.NewCounter()})
	if err != nil {
		return BatchID{}, fmt.Errorf("submitting: %w", err)
	}
	var summary batch.FileSummary
	n.File, summary, err = f.resources.Tracer.Upload(ctx, func(ctx context.Context) (batch.FileID, batch.FileSummary, error) {
		return jsonl.Load(ctx, f.resources.Store, reader, cmp.Or(o.Name, defaultName), n.CreatedBy, nil)
	})
	if err != nil {
		return BatchID{}, invalid(err)
	}
	if n.Budget, err = f.priced(n.Budget, summary); err != nil {
		_, deleteErr := f.resources.Store.DeleteFile(ctx, n.File)
		return BatchID{}, errors.Join(err, deleteErr)
	}
	// A crash here leaves a file without a batch, which expires.
	id, _, err := f.resources.Tracer.CreateBatch(ctx, func(ctx context.Context, traceContext string) (batch.ID, bool, error) {
		n.TraceContext = traceContext
		return f.resources.Store.CreateBatch(ctx, n)
	})
	if err != nil {
		return BatchID{}, fmt.Errorf("submitting: %w", err)
	}
	// A hint that is lost costs the dispatcher's claim interval.
	if err := f.resources.Conn.Publish(streams.HintWork, nil); err != nil {
		f.cfg.Logger.Debug("hint was not sent", "subject", streams.HintWork, "err", err)
	}
	return BatchID(id), nil
}

// Submit makes a batch of requests as they come, in constant memory. The first
// error of the sequence ends it, and nothing is kept.
func (f *Fusillade) Submit(ctx context.Context, requests iter.Seq2[Request, error], o SubmitOptions) (BatchID, error) {
	lines, written := io.Pipe()
	done := make(chan struct{})
	go func() { // ends when the reader is closed, if not before
		defer close(done)
		written.CloseWithError(encode(written, requests))
	}()
	id, err := f.SubmitFile(ctx, lines, o)
	_ = lines.CloseWithError(context.Canceled)
	<-done
	return id, err
}

// SubmitTx makes a batch in a transaction of the program: it exists if, and only
// if, the transaction commits. The requests are held in memory. Once it has
// committed, Postgres notifies the dispatcher; one that does not hear it finds the
// batch within its ClaimInterval.
func (f *Fusillade) SubmitTx(ctx context.Context, tx pgx.Tx, requests []Request, o SubmitOptions) (BatchID, error) {
	n, err := o.newBatch(f.cfg.Owner)
	if err != nil {
		return BatchID{}, fmt.Errorf("submitting: %w", err)
	}
	var lines bytes.Buffer
	if err := encode(&lines, each(requests)); err != nil {
		return BatchID{}, fmt.Errorf("submitting: %w", err)
	}
	reader, err := jsonl.NewReader(&lines, jsonl.Config{AllowMixedEndpoints: true, Survey: survey.NewCounter()})
	if err != nil {
		return BatchID{}, fmt.Errorf("submitting: %w", err)
	}
	templates := make([]batch.Template, 0, len(requests))
	for {
		t, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return BatchID{}, invalid(err)
		}
		templates = append(templates, t)
	}
	if n.Budget, err = f.priced(n.Budget, reader.Summary()); err != nil {
		return BatchID{}, err
	}
	id, _, err := f.resources.Tracer.CreateBatch(ctx, func(ctx context.Context, traceContext string) (batch.ID, bool, error) {
		n.TraceContext = traceContext
		return postgres.SubmitTx(ctx, tx, cmp.Or(o.Name, defaultName), templates, reader.Summary(), n)
	})
	return BatchID(id), err
}

func each(requests []Request) iter.Seq2[Request, error] {
	return func(yield func(Request, error) bool) {
		for _, r := range requests {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// encode writes requests as lines of a file. It returns the sequence's error.
func encode(w io.Writer, requests iter.Seq2[Request, error]) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for r, err := range requests {
		if err != nil {
			return err
		}
		line := struct {
			CustomID string `json:"custom_id"`
			Method   string `json:"method"`
			URL      string `json:"url"`
			Body     any    `json:"body"`
		}{r.CustomID, "POST", cmp.Or(r.Endpoint, defaultEndpoint), r.Body}
		if err := encoder.Encode(line); err != nil {
			return fmt.Errorf("request %q: %w", r.CustomID, err)
		}
	}
	return nil
}

func invalid(err error) error {
	var bad *jsonl.InvalidFileError
	if !errors.As(err, &bad) {
		return fmt.Errorf("submitting: %w", err)
	}
	out := &InvalidInputError{Total: bad.Total}
	for _, line := range bad.Lines {
		out.Lines = append(out.Lines, line.Message)
	}
	return out
}

// asJSON encodes what always can be.
func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("fusillade: " + err.Error())
	}
	return string(text)
}
