package dispatch

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/tracing"
	"fusillade/streams"
)

// batchMetadata is what each message of a batch carries about it.
type batchMetadata struct {
	headers  map[string][]string
	deadline []string
	created  trace.SpanContext // the trace context of its creation, if that was traced
	expires  time.Time
	read     time.Time
}

// current reports whether it need not be read again. A retry renews a deadline
// that has passed.
func (m batchMetadata) current(now time.Time) bool {
	return now.Before(m.expires) || now.Sub(m.read) < metadataAge
}

// metadataCache keeps what messages say about the batches being dispatched.
type metadataCache struct {
	store  *postgres.Store
	fields []string

	mu      sync.Mutex
	batches map[batch.ID]batchMetadata
}

// metadataAge is how long what is known of a batch is good for once its deadline
// has passed.
const metadataAge = time.Second

// maxCachedBatches bounds the cache; beyond it, it starts over.
const maxCachedBatches = 4096

func newMetadataCache(store *postgres.Store, fields []string) *metadataCache {
	return &metadataCache{store: store, fields: fields, batches: make(map[batch.ID]batchMetadata)}
}

// prepared is how many batches are read at once.
const prepared = 4

// prepare reads what is not known of the batches, beside their claim; wait returns
// when it has. What could not be read is left to get.
func (c *metadataCache) prepare(ctx context.Context, quotas []postgres.Quota) (wait func()) {
	var g errgroup.Group
	g.SetLimit(prepared)
	for _, id := range c.unknown(quotas) {
		g.Go(func() error {
			_, _ = c.get(ctx, id)
			return nil
		})
	}
	return func() { _ = g.Wait() }
}

func (c *metadataCache) unknown(quotas []postgres.Quota) (ids []batch.ID) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range quotas {
		if m, ok := c.batches[q.Batch]; (!ok || !m.current(now)) && !slices.Contains(ids, q.Batch) {
			ids = append(ids, q.Batch)
		}
	}
	return ids
}

func (c *metadataCache) get(ctx context.Context, id batch.ID) (batchMetadata, error) {
	c.mu.Lock()
	m, ok := c.batches[id]
	c.mu.Unlock()
	if ok && m.current(time.Now()) {
		return m, nil
	}
	b, err := c.store.GetBatch(ctx, id, nil)
	if err != nil {
		return batchMetadata{}, err
	}
	m = batchMetadata{headers: make(map[string][]string, len(c.fields)), deadline: []string{timestamp(b.ExpiresAt)}, expires: b.ExpiresAt, read: time.Now()}
	if b.TraceContext != "" {
		m.created = tracing.Decode(b.TraceContext)
	}
	left := maxHeaders
	for _, field := range c.fields {
		value, ok := fieldValue(b, field)
		if !ok {
			continue
		}
		name := headerName(streams.HeaderBatchPrefix + strings.ReplaceAll(strings.ToLower(field), "_", "-"))
		if field != "metadata" { // half of it would be no JSON
			value = cut(value, maxHeaderValue)
		}
		value = headerValue(value)
		if size := len(name) + len(value); size <= left {
			m.headers[name] = []string{value}
			left -= size
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batches) >= maxCachedBatches {
		clear(c.batches)
	}
	c.batches[id] = m
	return m, nil
}

// fieldValue reads a column of the batch; a name that is no column is looked
// up in its metadata. False: it has no value, and no header is sent.
func fieldValue(b postgres.Batch, field string) (string, bool) {
	switch field {
	case "id":
		return b.ID.String(), true
	case "file_id":
		return b.File.String(), true
	case "endpoint":
		return b.Endpoint, true
	case "completion_window":
		return b.CompletionWindow, true
	case "metadata":
		raw, err := json.Marshal(b.Metadata)
		return string(raw), err == nil && len(b.Metadata) > 0
	case "created_by":
		return b.CreatedBy, b.CreatedBy != ""
	case "created_at":
		return timestamp(b.CreatedAt), true
	case "expires_at":
		return timestamp(b.ExpiresAt), true
	case "total_requests":
		return strconv.FormatInt(b.Counts.Total, 10), true
	case "output_file_id", "error_file_id", "cancelling_at", "errors":
		return "", false // null for as long as the batch is dispatched
	}
	value, ok := b.Metadata[field]
	return value, ok
}

const (
	// maxHeaderValue is where a value is cut, in bytes. The API takes 512
	// characters of metadata for each key.
	maxHeaderValue = 2048
	// maxHeaders bounds all of a batch's headers together, far below the 64 KiB of
	// headers that the broker takes: what it refuses is refused for ever. A field
	// that does not fit any more, in the order of the setting, is left out.
	maxHeaders = 16 << 10
)

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// cut returns the first n bytes of s at most, and no part of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// headerValue makes any text a legal header value: control characters would
// end the header, so each becomes a space.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// headerName does the same for a name made from a client's choice.
func headerName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, s)
}
