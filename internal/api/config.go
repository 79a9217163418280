package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/tracing"
)

// controller changes batches and models: durably at return, and in the
// consumers soon after. It does not ask who their owner is. Its errors are those
// of the store; package control says more.
type controller interface {
	Cancel(ctx context.Context, id batch.ID) (postgres.Batch, error)
	CancelRequests(ctx context.Context, id batch.ID, lines []int32) (postgres.Lines, error)
	Rerun(ctx context.Context, id batch.ID, a batch.Allowance, states ...batch.State) (int, error)
	RerunLines(ctx context.Context, id batch.ID, a batch.Allowance, lines []int32) (postgres.Lines, error)
	DeleteBatch(ctx context.Context, id batch.ID) error
	DeleteFile(ctx context.Context, id batch.FileID) ([]batch.ID, error)
	Models(ctx context.Context) ([]control.ModelStatus, error)
	Waiting(ctx context.Context, b postgres.Batch) (*control.Waiting, error)
	LiftHolds(ctx context.Context, model batch.Model, only batch.ID) (int, error)
	ChangeModel(ctx context.Context, model batch.Model, c postgres.ModelChange) error
	SetModelEndpoint(ctx context.Context, model batch.Model, e control.ModelEndpoint) error
}

// Config says what a Server works on and what it allows. Zero fields take
// their defaults.
type Config struct {
	Store      *postgres.Store // required
	Controller controller      // required
	Log        *slog.Logger    // required
	// ParseWindow reads a completion window such as 24h or 7d; required.
	ParseWindow func(string) (time.Duration, error)
	// Wake tells dispatchers that there is work, at best; required.
	Wake func()

	// Ready says what keeps the server from its work; nil: nothing does. It must
	// return soon after its context ends.
	Ready func(context.Context) error

	// Tracer makes spans; nil: there are none.
	Tracer *tracing.Tracer

	// Owner owns everything, and no key is asked for, not even of operators. Empty: each request
	// needs an API key, whose owner it acts for.
	Owner string
	// Hosts are the names, besides localhost and addresses, that the Host of a
	// request may have where no key is asked for: *.example.com is every name below.
	Hosts []string
	// Keyring encrypts API keys of single batches; nil: they can have none.
	Keyring *seal.Keyring
	// Models are listed beside those of the owner's files.
	Models []string

	// Prices are those of models, by which budgets in money are counted; a model
	// without one can have none.
	Prices batch.Prices

	// Limits bound an input file.
	Limits jsonl.Limits
	// ModelLimits bound how many models files may name.
	ModelLimits batch.ModelLimits
	// AllowedModels are patterns of the models that files may name, as
	// jsonl.Config has them; none: any.
	AllowedModels []string
	// AllowedEndpoints are the urls that files may name; empty:
	// jsonl.DefaultEndpoints.
	AllowedEndpoints []string
	// Allowance is what an owner may have in progress whose key says nothing.
	Allowance batch.Allowance
	// MaxPartBytes is the largest part of an upload in parts; default 64 MiB.
	MaxPartBytes int64
	// MaxUploads is how many files are read at once; default 4. More wait.
	MaxUploads int
	// What an owner may have of the process's uploads, downloads and streams of
	// events at once; defaults 2, 4 and 64. More wait. Without keys there is one
	// owner, who may have all.
	MaxUploadsPerOwner, MaxDownloadsPerOwner, MaxWatchersPerOwner int
	// UploadTimeout is how long an upload, or a part of one, may take altogether;
	// default 1 h.
	UploadTimeout time.Duration
	// RetryAfter is what a client is told that has to wait; default 5 s.
	RetryAfter time.Duration
	// ClientTimeout is how long a client may take to send or receive 64 KiB;
	// default 30 s.
	ClientTimeout time.Duration
	// SessionTTL is how long a session goes on without a request; default 1 h.
	SessionTTL time.Duration
	// DrainTimeout is how long responses may go on after a stop; default 10 s.
	DrainTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	var problems []error
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"Store", c.Store == nil}, {"Controller", c.Controller == nil}, {"Log", c.Log == nil},
		{"ParseWindow", c.ParseWindow == nil}, {"Wake", c.Wake == nil},
	} {
		if field.missing {
			problems = append(problems, errors.New(field.name+" is required"))
		}
	}
	c.MaxPartBytes = cmp.Or(c.MaxPartBytes, 64<<20)
	c.MaxUploads = cmp.Or(c.MaxUploads, 4)
	c.MaxUploadsPerOwner = cmp.Or(c.MaxUploadsPerOwner, 2)
	c.MaxDownloadsPerOwner = cmp.Or(c.MaxDownloadsPerOwner, 4)
	c.MaxWatchersPerOwner = cmp.Or(c.MaxWatchersPerOwner, 64)
	c.UploadTimeout = cmp.Or(c.UploadTimeout, time.Hour)
	c.RetryAfter = cmp.Or(c.RetryAfter, 5*time.Second)
	c.ClientTimeout = cmp.Or(c.ClientTimeout, 30*time.Second)
	c.SessionTTL = cmp.Or(c.SessionTTL, time.Hour)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.Limits.MaxFileBytes = cmp.Or(c.Limits.MaxFileBytes, 2<<30)
	return c, errors.Join(problems...)
}
