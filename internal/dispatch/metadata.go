package dispatch

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// batchMetadata is what each message of a batch carries about it.
type batchMetadata struct {
	headers  map[string][]string
	deadline []string
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
	for _, field := range c.fields {
		if value, ok := fieldValue(b, field); ok {
			name := streams.HeaderBatchPrefix + strings.ReplaceAll(strings.ToLower(field), "_", "-")
			m.headers[headerName(name)] = []string{headerValue(value)}
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

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

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
