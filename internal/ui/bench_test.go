package ui_test

import (
	"flag"
	"net/http"
	"slices"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/postgres"
)

var benchBatches = flag.Int("batches", 2000, "batches in the tables of BenchmarkPages, each with 50 results; 100000 for what docs/dashboard.md says")

// BenchmarkPages measures each page, with its HTML, over many batches and results:
//
//	go test ./internal/ui -run '^$' -bench Pages -benchtime 20x -batches 100000
func BenchmarkPages(b *testing.B) {
	w := connect(b, func(s *config.Standalone) { s.Server.Auth = config.AuthKeys })
	w.url = w.serve()
	last := w.fill(*benchBatches)
	key := func(owner string, admin bool) *client { return w.signedIn(w.Key(owner, admin)) }
	clients := map[string]*client{"owner": key("owner-3", false), "operator": key("root", true)}
	for _, page := range []struct{ who, name, path string }{
		{"operator", "overview", "/ui/"}, {"owner", "overview", "/ui/"},
		{"operator", "batches", "/ui/batches"}, {"owner", "batches", "/ui/batches"},
		{"operator", "in progress", "/ui/batches?status=in_progress"}, {"operator", "rare", "/ui/batches?status=expired"},
		{"owner", "by model", "/ui/batches?model=model-1"}, {"owner", "by metadata", "/ui/batches?metadata=n=77"},
		{"owner", "by custom id", "/ui/batches?find=request-7"},
		{"owner", "a batch", "/ui/batches/" + last}, {"owner", "requests", "/ui/batches/" + last + "/requests"},
		{"owner", "failed requests", "/ui/batches/" + last + "/requests?status=failed"}, {"owner", "a request", "/ui/batches/" + last + "/requests/7"},
		{"owner", "files", "/ui/files"}, {"owner", "a file", "/ui/files/file-01900000000070008000000000000003"}, {"operator", "models", "/ui/models"}, {"operator", "daemons", "/ui/daemons"},
		{"operator", "keys", "/ui/keys"}, {"operator", "webhooks", "/ui/webhooks"}, {"operator", "owners", "/ui/owners"},
	} {
		b.Run(page.who+"/"+page.name, func(b *testing.B) {
			c := clients[page.who]
			var times []time.Duration
			for b.Loop() {
				began := time.Now()
				if a := c.get(page.path); a.status != http.StatusOK {
					b.Fatalf("%s is answered with %d: %s", page.path, a.status, a.body)
				}
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms/median")
		})
	}
}

// fill writes n batches of 50 requests of one file, of 20 owners, of which the newest
// 200 are in progress, and returns the id of one of owner-3's.
func (w *world) fill(n int) string {
	w.T.Helper()
	for _, sql := range []string{
		`INSERT INTO files (id, status, filename, endpoint, bytes, requests, created_by)
		 SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(o), 12, '0'))::uuid, 'ready', 'requests.jsonl', '/v1/chat/completions', 5000, 50, 'owner-' || o FROM generate_series(0, 19) o`,
		`INSERT INTO file_models SELECT id, 'model-' || m, 25, 2500 FROM files, generate_series(0, 1) m`,
		`INSERT INTO templates SELECT f.id, line, 'model-' || line % 2, 'request-' || line, 'POST', '/v1/chat/completions', '{"model":"m","messages":[]}' FROM files f, generate_series(1, 50) line`,
		`INSERT INTO batches (id, file_id, endpoint, completion_window, metadata, created_by, status, created_at, expires_at, finished_at, total, completed, failed, next_seq)
		 SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, ('01900000-0000-7000-8000-' || lpad(to_hex(i % 20), 12, '0'))::uuid, '/v1/chat/completions', '24h',
		        jsonb_build_object('n', (i % 1000)::text), 'owner-' || i % 20, CASE WHEN i > $1 - 200 THEN 'in_progress' ELSE 'completed' END,
		        now() - ($1 - i) * interval '100 ms', now() + interval '1 day' - ($1 - i) * interval '100 ms', CASE WHEN i <= $1 - 200 THEN now() - ($1 - i) * interval '100 ms' END,
		        50, CASE WHEN i > $1 - 200 THEN 23 ELSE 48 END, 2, CASE WHEN i > $1 - 200 THEN 25 ELSE 50 END
		   FROM generate_series(1, $1::int) i`,
		`INSERT INTO cursors (batch_id, model, file_id, total, claimed, last_line, open, created_by)
		 SELECT b.id, 'model-' || m, b.file_id, 25, CASE WHEN b.status = 'in_progress' THEN m * 25 ELSE 25 END, CASE WHEN b.status = 'in_progress' AND m = 0 THEN 0 ELSE 49 + (1 - m) END, b.status = 'in_progress' AND m = 0, b.created_by
		   FROM batches b, generate_series(0, 1) m`,
		`INSERT INTO results (batch_id, line, seq, state, status_code, attempts, finished_at, reason, routed_model, body)
		 SELECT b.id, l, row_number() OVER (PARTITION BY b.id ORDER BY l) - 1, (CASE WHEN l % 25 = 7 THEN 'failed' ELSE 'completed' END)::request_state, CASE WHEN l % 25 = 7 THEN 400 ELSE 200 END, 1,
		        b.created_at + l * interval '100 ms', CASE WHEN l % 25 = 7 THEN 'non_retriable_http_status' END, 'model-' || l % 2, '{"choices":[]}'
		   FROM batches b, generate_series(1, 50) l WHERE b.status <> 'in_progress' OR l % 2 = 1`,
		`INSERT INTO batch_usage (batch_id, model, input_tokens, output_tokens, cached_tokens, reasoning_tokens) SELECT id, 'model-0', 1000, 500, 0, 0 FROM batches`,
	} {
		args := []any{n}
		if !slices.Contains([]byte(sql), '$') {
			args = nil
		}
		if _, err := w.DB.Exec(w.T.Context(), sql, args...); err != nil {
			w.T.Fatalf("%v: %s", err, sql)
		}
	}
	w.exec(`VACUUM ANALYZE`)
	found, err := w.Store.FindBatches(w.T.Context(), postgres.BatchSearch{Owner: "owner-3", Statuses: []batch.Status{batch.StatusCompleted}, Limit: 1})
	if err != nil || len(found.Batches) == 0 {
		w.T.Fatalf("no batch was written: %v", err)
	}
	return found.Batches[0].ID.String()
}
