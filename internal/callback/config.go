package callback

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// store is where calls are owed. All of it may be repeated after an error, whether
// or not it took effect.
type store interface {
	FinishOwing(ctx context.Context, daemon batch.DaemonID, completions []postgres.Completion, releases []postgres.Release, o postgres.Owing) (map[batch.RequestID]bool, []batch.Result, error, error)
	TakeCallbacks(ctx context.Context, daemon batch.DaemonID, stale time.Duration, later, inTx bool, n int) ([]postgres.Callback, error)
	ReleaseCallbacks(ctx context.Context, daemon batch.DaemonID, known []postgres.Callback) error
	SettleCallbacks(ctx context.Context, daemon batch.DaemonID, made []postgres.Callback, failed []postgres.FailedCallback) error
	OwedResult(ctx context.Context, c postgres.Callback) (batch.Result, error)
	CallInTx(ctx context.Context, daemon batch.DaemonID, c postgres.Callback, call postgres.InTx) (bool, error)
}

// Gate is what begins no call while too much waits.
type Gate interface {
	// AddResult counts bytes that wait, and FreeResult such that wait no more.
	AddResult(bytes int)
	FreeResult(bytes int)
}

// Program is whom to call. The zero value: nobody.
type Program struct {
	// OnResult is called after the commit of a result, from as many goroutines as
	// Workers says. After an error it is called again.
	OnResult func(context.Context, batch.Result) error
	// OnResultTx is called in the transaction that writes results.
	OnResultTx postgres.InTx
	// Workers is how many calls of OnResult are made at once.
	Workers int
}

// Any reports whether there is somebody to call.
func (p Program) Any() bool { return p.OnResult != nil || p.OnResultTx != nil }

// Config says what a Caller works with.
type Config struct {
	Program
	Store  store
	Daemon batch.DaemonID
	// StaleThreshold is the age of a heartbeat from which its daemon is dead.
	StaleThreshold time.Duration
	// DrainTimeout bounds the calls that are made once Run is told to end.
	DrainTimeout time.Duration
	Metrics      prometheus.Registerer // nil: nowhere
	Log          *slog.Logger
}

func (c Config) validate() error {
	switch {
	case !c.Any() || c.Store == nil || c.Log == nil || c.Daemon == batch.DaemonID{}:
		return errors.New("callback: a Program, Store, Daemon and Log are required")
	case c.Workers < 1 || c.StaleThreshold <= 0 || c.DrainTimeout < 0:
		return errors.New("callback: Workers and StaleThreshold must be positive")
	}
	return nil
}
