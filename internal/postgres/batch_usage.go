package postgres

// ModelUsage is what the completed requests of a batch used of one model.
type ModelUsage struct {
	Model           string `json:"model"`
	InputTokens     int64  `json:"input"`
	OutputTokens    int64  `json:"output"`
	CachedTokens    int64  `json:"cached"`    // of the input
	ReasoningTokens int64  `json:"reasoning"` // of the output
}

const (
	// Adds what `gone` has used. The batches' rows are locked, so no two flushes
	// meet at a row. Only completed requests count: none of them is ever taken
	// back. What an endpoint makes up beyond any real number is cut off, so that
	// no sum of it is refused and holds up the results.
	addUsageSQL = `
    INSERT INTO batch_usage AS u (batch_id, model, input_tokens, output_tokens, cached_tokens, reasoning_tokens)
    SELECT batch_id, routed_model, LEAST(sum(prompt_tokens), 4e15)::bigint, LEAST(sum(completion_tokens), 4e15)::bigint,
           LEAST(sum(cached_tokens), 4e15)::bigint, LEAST(sum(reasoning_tokens), 4e15)::bigint
      FROM gone WHERE state = 'completed' AND (prompt_tokens > 0 OR completion_tokens > 0)
     GROUP BY batch_id, routed_model
        ON CONFLICT (batch_id, model) DO UPDATE
       SET input_tokens = LEAST(u.input_tokens + EXCLUDED.input_tokens, 4000000000000000),
           output_tokens = LEAST(u.output_tokens + EXCLUDED.output_tokens, 4000000000000000),
           cached_tokens = LEAST(u.cached_tokens + EXCLUDED.cached_tokens, 4000000000000000),
           reasoning_tokens = LEAST(u.reasoning_tokens + EXCLUDED.reasoning_tokens, 4000000000000000)`

	// Of a row of batches.
	usageSQL = `(
       SELECT jsonb_agg(jsonb_build_object('model', u.model, 'input', u.input_tokens, 'output', u.output_tokens,
                                           'cached', u.cached_tokens, 'reasoning', u.reasoning_tokens) ORDER BY u.model)
         FROM batch_usage u WHERE u.batch_id = batches.id)`
)
