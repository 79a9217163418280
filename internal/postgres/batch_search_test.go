package postgres

import (
	"slices"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// manyBatches writes n batches of one file, of ten owners, the newest 30 of them in
// progress, and results for the newest 100.
func manyBatches(t testing.TB, s *Store, n int) {
	t.Helper()
	file := newFile(t, s, templates(1, 2, testModel, otherName))
	sqlExec(t, s, `
INSERT INTO batches (id, file_id, endpoint, completion_window, metadata, created_by, status, created_at, expires_at, finished_at, total, completed, failed, next_seq)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, $2, '/v1/chat/completions', '24h', jsonb_build_object('n', i::text), 'owner-' || i % 10,
       CASE WHEN i > $1 - 30 THEN 'in_progress' WHEN i % 100 = 7 THEN 'failed' ELSE 'completed' END, timestamptz '2026-01-01 00:00Z' + i * interval '1 s', now() + interval '1 day',
       CASE WHEN i <= $1 - 30 THEN now() - ($1 - i) * interval '1 min' END, 2, CASE WHEN i > $1 - 30 THEN 0 WHEN i % 100 = 7 THEN 0 ELSE 1 END,
       CASE WHEN i > $1 - 30 THEN 0 WHEN i % 100 = 7 THEN 2 ELSE 1 END, CASE WHEN i > $1 - 30 THEN 0 ELSE 2 END
  FROM generate_series(1, $1::int) i`, n, [16]byte(file))
	sqlExec(t, s, `
INSERT INTO cursors (batch_id, model, file_id, total, claimed, last_line, open, created_by)
SELECT id, CASE WHEN created_by = 'owner-3' THEN $1 ELSE $2 END, file_id, 2, 2, 2, false, created_by FROM batches`, string(testModel), string(otherName))
	sqlExec(t, s, `
INSERT INTO results (batch_id, line, seq, state, status_code, attempts, reason, routed_model)
SELECT id, l, l - 1, (CASE WHEN l = 1 THEN 'failed' ELSE 'completed' END)::request_state, 400, 1, CASE WHEN l = 1 THEN 'non_retriable_http_status' END, $1
  FROM (SELECT id FROM batches WHERE status <> 'in_progress' ORDER BY id DESC LIMIT 100) b, generate_series(1, 2) l`, string(testModel))
	sqlExec(t, s, `VACUUM ANALYZE`)
}

// A search finds what fits, newest first, page by page, and says where it stopped.
func TestFindBatches(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const n = 60_000
	manyBatches(t, s, n)
	all := func(q BatchSearch) (found, pages int) {
		t.Helper()
		last := lastID
		for {
			page, err := s.FindBatches(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			if len(page.Batches) > q.Limit {
				t.Fatalf("%d batches on a page of %d", len(page.Batches), q.Limit)
			}
			for _, b := range page.Batches {
				if slices.Compare(b.ID[:], last[:]) >= 0 {
					t.Fatalf("%s follows %s", b.ID, last)
				}
				last = b.ID
			}
			found += len(page.Batches)
			if q.After = page.Next; q.After == (batch.ID{}) {
				return found, pages
			}
		}
	}
	sqlExec(t, s, `UPDATE batches SET cancelling_at = now() WHERE id = (SELECT id FROM batches WHERE status = 'in_progress' AND created_by = 'owner-7' LIMIT 1)`)
	yes, no := true, false
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		query       BatchSearch
		want, pages int
	}{
		"an owner's":           {BatchSearch{Owner: "owner-3", Limit: 1000}, n / 10, 6},
		"of another":           {BatchSearch{Owner: "nobody", Limit: 10}, 0, 1},
		"all that failed":      {BatchSearch{Statuses: []batch.Status{batch.StatusFailed}, Limit: 1000}, n / 100, 4},
		"in progress":          {BatchSearch{Statuses: []batch.Status{batch.StatusInProgress}, Limit: 100}, 30, 1},
		"an owner's, of those": {BatchSearch{Statuses: []batch.Status{batch.StatusInProgress}, Owner: "owner-3", Limit: 2}, 3, 2},
		"several":              {BatchSearch{Statuses: []batch.Status{batch.StatusInProgress, batch.StatusFailed}, Owner: "owner-7", Limit: 1000}, n/100 + 3, 1},
		"being cancelled":      {BatchSearch{Statuses: []batch.Status{batch.StatusInProgress}, Cancelling: &yes, Limit: 100}, 1, 1},
		"not being cancelled":  {BatchSearch{Statuses: []batch.Status{batch.StatusInProgress, batch.StatusFailed}, Cancelling: &no, Owner: "owner-7", Limit: 1000}, n/100 + 2, 1},
		"of a model":           {BatchSearch{Model: string(testModel), Limit: 5000}, n / 10, 4},
		"one by its metadata":  {BatchSearch{MetadataKey: "n", MetadataText: "77", Limit: 50}, 1, 4},
		"of one hour":          {BatchSearch{Owner: "owner-3", From: day.Add(time.Hour), To: day.Add(2 * time.Hour), Limit: 1000}, 360, 1},
	} {
		if found, pages := all(c.query); found != c.want || pages != c.pages {
			t.Errorf("%s: %d in %d pages, want %d in %d", name, found, pages, c.want, c.pages)
		}
	}
}

// What a page of the dashboard reads does not follow from how many batches there
// are.
func TestPlansOfTheDashboard(t *testing.T) {
	t.Parallel()
	type statement struct {
		name, sql string
		args      []any
	}
	measure := func(n int) map[string]float64 {
		s := newStore(t)
		manyBatches(t, s, n)
		// Of what an owner has, one file, there is one batch, and so it is whether the
		// planner begins with the file's batches or with the owner's.
		sqlExec(t, s, `UPDATE files SET created_by = 'owner-3'`)
		newBatch(t, s, 2)
		sqlExec(t, s, `VACUUM ANALYZE`)
		newest, err := s.FindBatches(t.Context(), BatchSearch{Limit: 50})
		if err != nil {
			t.Fatal(err)
		}
		failed, err := s.FindBatches(t.Context(), BatchSearch{Statuses: []batch.Status{batch.StatusCompleted}, Limit: 50})
		if err != nil || len(failed.Batches) != 50 {
			t.Fatal(err)
		}
		var ids, ended [][16]byte
		for _, b := range newest.Batches {
			ids = append(ids, [16]byte(b.ID))
		}
		for _, b := range failed.Batches {
			ended = append(ended, [16]byte(b.ID))
		}
		search := func(owner string) []any {
			return []any{[16]byte(lastID), [16]byte{}, []string{}, "", "", "", "-infinity", "infinity", owner, 51, nil}
		}
		live := search("owner-3")
		live[2] = []string{"in_progress"}
		several := search("owner-3")
		several[2], several[10] = []string{"in_progress", "completed"}, false
		allLive := search("")
		allLive[2] = []string{"in_progress"}
		rows := make(map[string]float64)
		for _, st := range []statement{
			{"search of several statuses", searchOwnerSQL, several}, {"search", searchAllSQL, search("")}, {"search of an owner", searchOwnerSQL, search("owner-3")},
			{"search of what is in progress", searchAllLiveSQL, allLive}, {"search of an owner's in progress", searchOwnerLiveSQL, live},
			{"end of a window", searchAllEndSQL, []any{"", [16]byte(lastID), 999}}, {"end of an owner's window", searchOwnerEndSQL, []any{"owner-3", [16]byte(lastID), 99}},
			{"a page", batchesByIDSQL, []any{ids}}, {"a file's batches", ofFileSQL, []any{[16]byte(newest.Batches[1].File), [16]byte(lastID), 51}},
			{"soonest", soonestAllSQL, []any{"", 200}}, {"soonest of an owner", soonestSQL, []any{"owner-3", 200}},
			{"recent progress", recentProgressSQL, []any{time.Hour, maxRecent}},
			{"failures", failuresSQL, []any{ended, failuresPerBatch, time.Hour}}, {"curve", curveSQL, []any{ended[0], 60}},
			{"failed lines", failedLinesSQL, []any{ended[0], "non_retriable_http_status", 400, MaxLines}},
			{"custom id", customIDSQL, []any{creator, "id-1", CustomIDsSearched}}, {"owners", ownersUseSQL, nil},
			{"session", findSessionSQL, []any{make([]byte, 32)}}, {"deliveries", deliveriesSQL, []any{100}},
		} {
			plan := explain(t, s, ", ANALYZE, BUFFERS", st.sql, st.args...)
			if scans := plan.wholeScans(); len(scans) > 0 {
				t.Errorf("%s: %v", st.name, scans)
			}
			rows[st.name] = plan.touched()
		}
		return rows
	}
	small, big := measure(3_000), measure(30_000)
	for name, before := range small {
		t.Logf("%-30s %6.0f rows; %6.0f", name, before, big[name])
		if big[name] > before+100 {
			t.Errorf("%s reads %.0f rows, and %.0f of ten times as many batches", name, before, big[name])
		}
	}
}
