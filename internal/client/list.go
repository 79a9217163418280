package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// Raw is an object as the server sent it.
type Raw struct {
	JSON json.RawMessage `json:"-"`
}

func (r *Raw) keep(raw json.RawMessage) { r.JSON = raw }

// object is a pointer to something that keeps its JSON.
type object[T any] interface {
	*T
	keep(json.RawMessage)
}

func read[T any, P object[T]](raw json.RawMessage, err error) (T, error) {
	var v T
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("reading the answer: %w", err)
	}
	P(&v).keep(raw)
	return v, nil
}

const pageSize = 100

// list walks a list page by page, to its end or to the n-th object; 0: no
// limit. After an error it ends.
func list[T any, P object[T]](ctx context.Context, c *Client, path string, n int, paged bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := make(url.Values)
		for seen := 0; ; {
			if paged {
				size := pageSize
				if n > 0 {
					size = min(size, n-seen)
				}
				query.Set("limit", strconv.Itoa(size))
			}
			var page struct {
				Data    []json.RawMessage `json:"data"`
				LastID  string            `json:"last_id"`
				HasMore bool              `json:"has_more"`
			}
			raw, err := c.call(ctx, http.MethodGet, path, query, nil)
			if err == nil {
				if err = json.Unmarshal(raw, &page); err != nil {
					err = fmt.Errorf("reading the answer: %w", err)
				}
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, raw := range page.Data {
				v, err := read[T, P](raw, nil)
				if !yield(v, err) || err != nil {
					return
				}
				if seen++; seen == n {
					return
				}
			}
			if !page.HasMore || len(page.Data) == 0 || !paged {
				return
			}
			query.Set("after", page.LastID)
		}
	}
}
