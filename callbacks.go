package fusillade

import (
	"context"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/callback"
)

// callbacks are those of the configuration, as consumers call them.
func (c Config) callbacks() callback.Program {
	p := callback.Program{Workers: max(c.OnResultConcurrency, 1)}
	if c.OnResult != nil {
		p.OnResult = func(ctx context.Context, r batch.Result) error { return c.OnResult(ctx, result(r)) }
	}
	if c.OnResultTx != nil {
		p.OnResultTx = func(ctx context.Context, tx pgx.Tx, results []batch.Result) error {
			list := make([]Result, len(results))
			for i, r := range results {
				list[i] = result(r)
			}
			return c.OnResultTx(ctx, tx, list)
		}
	}
	return p
}
