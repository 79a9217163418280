package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
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

// page is a page of a list.
type page struct {
	Data    []json.RawMessage `json:"data"`
	LastID  string            `json:"last_id"`
	HasMore bool              `json:"has_more"`
}

func (c *Client) page(ctx context.Context, path string, query url.Values) (p page, err error) {
	raw, err := c.call(ctx, http.MethodGet, path, query, nil)
	if err == nil {
		if err = json.Unmarshal(raw, &p); err != nil {
			err = fmt.Errorf("reading the answer: %w", err)
		}
	}
	return p, err
}

// list walks a list that has one page. After an error it ends.
func list[T any, P object[T]](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		p, err := c.page(ctx, path, query)
		if err != nil {
			var none T
			yield(none, err)
		}
		each[T, P](p, yield)
	}
}

// pages walks a list page by page, to its end or to the n-th object; 0: no
// limit. After an error it ends. A page may be empty and others follow: where few fit
// a filter the server looks at so many at a time.
func pages[T any, P object[T]](ctx context.Context, c *Client, path string, filter url.Values, n int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := maps.Clone(filter)
		for left := n; n == 0 || left > 0; {
			size := pageSize
			if n > 0 {
				size = min(size, left)
			}
			query.Set("limit", strconv.Itoa(size))
			p, err := c.page(ctx, path, query)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			if !each[T, P](p, yield) || !p.HasMore || p.LastID == query.Get("after") {
				return
			}
			left -= len(p.Data)
			query.Set("after", p.LastID)
		}
	}
}

// each yields the objects of a page, and reports whether to go on.
func each[T any, P object[T]](p page, yield func(T, error) bool) bool {
	for _, raw := range p.Data {
		v, err := read[T, P](raw, nil)
		if !yield(v, err) || err != nil {
			return false
		}
	}
	return true
}
