package dispatch

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

func TestFieldValue(t *testing.T) {
	t.Parallel()
	id := [16]byte{1, 2, 3, 15: 255}
	full := postgres.Batch{
		ID: batch.ID(id), File: batch.FileID(id), Endpoint: "/v1/embeddings", CompletionWindow: "7d", CreatedBy: "alice",
		Metadata:  map[string]string{"team": "red", "empty": "", "id_like": "x"},
		CreatedAt: time.Date(2026, 3, 1, 23, 59, 59, 123456789, time.FixedZone("", 3600)),
		ExpiresAt: time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC), Counts: batch.Counts{Total: 12},
	}
	for field, tt := range map[string]struct{ full, bare string }{
		"id":                {"batch_010203000000000000000000000000ff", "batch_00000000000000000000000000000000"},
		"file_id":           {"file-010203000000000000000000000000ff", "file-00000000000000000000000000000000"},
		"endpoint":          {"/v1/embeddings", ""},
		"completion_window": {"7d", ""},
		"metadata":          {`{"empty":"","id_like":"x","team":"red"}`, none},
		"output_file_id":    {none, none},
		"error_file_id":     {none, none},
		"created_by":        {"alice", none},
		"created_at":        {"2026-03-01T22:59:59.123456Z", "0001-01-01T00:00:00.000000Z"},
		"expires_at":        {"2026-03-08T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"},
		"cancelling_at":     {none, none},
		"errors":            {none, none},
		"total_requests":    {"12", "0"},
		"team":              {"red", none},
		"empty":             {"", none},
		"unheard_of":        {none, none},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			for b, want := range map[*postgres.Batch]string{&full: tt.full, {}: tt.bare} {
				got, ok := fieldValue(*b, field)
				if !ok {
					got = none
				}
				if got != want {
					t.Errorf("value is %q, want %q", got, want)
				}
			}
		})
	}
}

// none stands for a field that has no value, so that no header is sent.
const none = "\x00none"

// Whatever a client writes, no value ends its header, and no text is lost but
// control characters.
func TestHeaderValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		got := headerValue(value)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q holds a control character", got)
		}
		if len([]rune(got)) != len([]rune(value)) {
			t.Errorf("%q became %q", value, got)
		}
	})
	if got, want := headerValue("a\r\nX-Evil: é\t1"), "a  X-Evil: é 1"; got != want {
		t.Errorf("value is %q, want %q", got, want)
	}
}

func TestHeaderName(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z0-9-]*$`)
	rapid.Check(t, func(t *rapid.T) {
		if got := headerName(rapid.String().Draw(t, "name")); !name.MatchString(got) {
			t.Errorf("name is %q", got)
		}
	})
}

// The cache asks once for each batch, for ever so many batches.
func TestMetadataCache(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cache := newMetadataCache(c.Store, []string{"total_requests", "Team_Name"})
	id := c.Begin(lines(3, testModel), func(n *postgres.NewBatch) { n.Metadata = map[string]string{"Team_Name": "red\n"} })
	for range 2 {
		got, err := cache.get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]string{"x-fusillade-batch-total-requests": {"3"}, "x-fusillade-batch-team-name": {"red "}}
		if diff := cmp.Diff(want, got.headers); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		c.Exec(`UPDATE batches SET metadata = '{}'`) // which the second look must not see
	}
	// A deadline that has passed may be renewed; it is looked at again, later.
	m := cache.batches[id]
	m.expires, m.read = time.Now().Add(-time.Minute), time.Now()
	if !m.current(time.Now()) || m.current(time.Now().Add(metadataAge)) {
		t.Errorf("of a batch whose deadline has passed: %+v", m)
	}
	m.read = m.expires
	cache.batches[id] = m
	if got, err := cache.get(t.Context(), id); err != nil || len(got.headers) != 1 || !got.expires.After(time.Now()) {
		t.Errorf("read again: %+v, %v", got, err)
	}
	if _, err := cache.get(t.Context(), batch.ID{1}); !errors.Is(err, batch.ErrNotFound) {
		t.Errorf("an unknown batch: %v, want ErrNotFound", err)
	}
	for i := range maxCachedBatches {
		cache.batches[batch.ID{2, byte(i), byte(i >> 8)}] = batchMetadata{}
	}
	cache.batches[id] = batchMetadata{}
	delete(cache.batches, id)
	if _, err := cache.get(t.Context(), id); err != nil || len(cache.batches) != 1 {
		t.Errorf("%d batches are kept, err %v; want the cache to begin anew", len(cache.batches), err)
	}
}
