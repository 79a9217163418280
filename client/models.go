package client

import (
	"context"
	"iter"
)

// Model is OpenAI's model object.
type Model struct {
	Raw
	ID string `json:"id"`
}

// Models walks the models that are configured, and those of the caller's files.
func (c *Client) Models(ctx context.Context) iter.Seq2[Model, error] {
	return list[Model](ctx, c, "/v1/models", nil)
}
