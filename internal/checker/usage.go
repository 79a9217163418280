package checker

import (
	"context"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// usage is what a batch used of a model, as counted and as its results say.
type usage struct {
	model         string
	input, output int64
	sumIn, sumOut int64
}

// mostTokens is where counting ends.
const mostTokens = 4_000_000_000_000_000

const usageSQL = `
SELECT COALESCE(u.model, r.model), COALESCE(u.input_tokens, 0), COALESCE(u.output_tokens, 0), COALESCE(r.input, 0), COALESCE(r.output, 0)
  FROM (SELECT * FROM batch_usage WHERE batch_id = $1) u
  FULL JOIN (SELECT routed_model AS model, LEAST(COALESCE(sum(prompt_tokens), 0), 4e15)::bigint AS input,
                    LEAST(COALESCE(sum(completion_tokens), 0), 4e15)::bigint AS output
               FROM results WHERE batch_id = $1 AND state = 'completed' GROUP BY routed_model) r ON r.model = u.model`

func (t *tables) loadUsage(ctx context.Context, tx pgx.Tx, id batch.ID) error {
	rows, _ := tx.Query(ctx, usageSQL, [16]byte(id))
	var err error
	t.usage, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u usage, err error) {
		err = row.Scan(&u.model, &u.input, &u.output, &u.sumIn, &u.sumOut)
		return u, err
	})
	if err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT count(*) FROM batch_keys k JOIN batches b ON b.id = k.batch_id
 WHERE k.batch_id = $1 AND (b.status <> 'in_progress' OR NOT b.brings_key)`, [16]byte(id)).Scan(&t.keys)
}

// checkUsage: the tokens are those of the completed results, and a key is
// stored of a batch in progress only.
func (t *tables) checkUsage(p *problems) {
	for _, u := range t.usage {
		p.want("input tokens of model "+u.model, u.input, min(u.sumIn, mostTokens))
		p.want("output tokens of model "+u.model, u.output, min(u.sumOut, mostTokens))
	}
	p.want("keys that are stored and should not be", t.keys, 0)
}
