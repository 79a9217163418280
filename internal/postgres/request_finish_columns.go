package postgres

import (
	"fmt"
	"strings"
)

// column is a column of the rows that finishSQL is given: an array parameter
// with a value for each completion.
type column struct {
	name string
	kind string // of the array; what follows a colon is cast to
	// value of the column in results; empty: it is not stored there.
	value string
	array func([]*Completion) any
}

func columnOf[T any](name, kind, value string, get func(*Completion) T) column {
	return column{name, kind, value, func(list []*Completion) any {
		out := make([]T, len(list))
		for i, c := range list {
			out[i] = get(c)
		}
		return out
	}}
}

type columns []column

// The columns of a completion, listed here and nowhere else. The first are the
// key, by which rows are found and fenced.
var completionColumns = columns{
	columnOf("batch_id", "uuid[]", "batch_id", func(c *Completion) [16]byte { return [16]byte(c.ID.Batch) }),
	columnOf("line", "int[]", "line", func(c *Completion) int32 { return c.ID.Line }),
	columnOf("claim", "int[]", "claim", func(c *Completion) int32 { return int32(c.Claim) }),
	columnOf("delivery", "int[]", "", func(c *Completion) int32 { return int32(c.Number) }),
	columnOf("state", "text[]::request_state[]", "state", func(c *Completion) string { return string(c.State) }),
	columnOf("reason", "text[]", "NULLIF(reason, '')", func(c *Completion) string { return string(c.Reason) }),
	columnOf("attempts", "int[]", "attempts", func(c *Completion) int32 { return int32(c.Attempts) }),
	columnOf("status_code", "int[]", "NULLIF(status_code, 0)", func(c *Completion) int32 { return int32(c.StatusCode) }),
	columnOf("upstream_request_id", "text[]", "NULLIF(upstream_request_id, '')", func(c *Completion) string { return c.RequestID }),
	columnOf("answered_model", "text[]", "NULLIF(answered_model, '')", func(c *Completion) string { return c.AnsweredModel }),
	columnOf("body", "bytea[]", "body", func(c *Completion) []byte { return c.Body }),
	columnOf("detail", "text[]", "NULLIF(detail, '')", func(c *Completion) string { return c.Detail }),
	columnOf("cause", "text[]", "NULLIF(cause, '')", func(c *Completion) string { return c.Cause }),
	columnOf("prompt_tokens", "bigint[]", "prompt_tokens", func(c *Completion) int64 { return c.Usage.PromptTokens }),
	columnOf("completion_tokens", "bigint[]", "completion_tokens", func(c *Completion) int64 { return c.Usage.CompletionTokens }),
	columnOf("cached_tokens", "bigint[]", "", func(c *Completion) int64 { return c.Usage.CachedTokens }),
	columnOf("reasoning_tokens", "bigint[]", "", func(c *Completion) int64 { return c.Usage.ReasoningTokens }),
}

// arrays are the parameters, counted from first on.
func (cs columns) arrays(first int) string {
	return cs.join(func(i int, c column) string { return fmt.Sprintf("$%d::%s", first+i, c.kind) })
}

func (cs columns) names() string { return cs.join(func(_ int, c column) string { return c.name }) }

// stored are the columns of results, and values what is stored in each.
func (cs columns) stored() string {
	return cs.join(func(_ int, c column) string {
		if c.value == "" {
			return ""
		}
		return c.name
	})
}

func (cs columns) values() string { return cs.join(func(_ int, c column) string { return c.value }) }

func (cs columns) join(text func(int, column) string) string {
	var out []string
	for i, c := range cs {
		if t := text(i, c); t != "" {
			out = append(out, t)
		}
	}
	return strings.Join(out, ", ")
}

func (cs columns) args(list []*Completion) []any {
	out := make([]any, len(cs))
	for i, c := range cs {
		out[i] = c.array(list)
	}
	return out
}
