package postgres

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fusillade/internal/batch"
)

func TestCreateAndGetBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 1000, testModel, testModel, otherName))
	want := Batch{
		File: file, Endpoint: "/v1/chat/completions", CompletionWindow: "1h30m", CreatedBy: creator, Status: batch.StatusInProgress,
		Metadata: map[string]string{"name": "nightly \"run\" ☂", "empty": ""},
		Counts:   batch.Counts{Total: 1000, Pending: 1000},
	}
	id, created, err := s.CreateBatch(t.Context(), NewBatch{
		File: file, CompletionWindow: 90 * time.Minute, WindowText: "1h30m", Metadata: want.Metadata, CreatedBy: creator,
	})
	if err != nil || !created {
		t.Fatalf("created: %t, err: %v", created, err)
	}
	got, err := s.GetBatch(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	want.ID = id
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Batch{}, "CreatedAt", "ExpiresAt")); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	if window := got.ExpiresAt.Sub(got.CreatedAt); window != 90*time.Minute {
		t.Errorf("it expires after %s", window)
	}
	// A row per model, and none per request.
	if n := sqlInt(t, s, `SELECT count(*) FROM cursors`); n != 2 {
		t.Errorf("%d cursors, want 2", n)
	}
	if n := sqlInt(t, s, `SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM results)`); n != 0 {
		t.Errorf("%d rows of requests, want none", n)
	}
	check(t, s)
}

func TestBatchEndpoint(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id, _, err := s.CreateBatch(t.Context(), NewBatch{File: newFile(t, s, templates(1, 1, testModel)), CreatedBy: creator, Endpoint: "/v1/own", WindowText: "0s"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.GetBatch(t.Context(), id, nil)
	if err != nil || b.Endpoint != "/v1/own" || len(b.Metadata) != 0 || !b.FinishedAt.IsZero() {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestBatchNeedsAReadyFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	deleted := upload(t, s, 1)
	sqlExec(t, s, hideFileSQL, [16]byte(deleted))
	for name, file := range map[string]batch.FileID{"unknown": {}, "uploading": upload(t, s, 1), "deleted": deleted} {
		for _, key := range []string{"", "key"} {
			_, created, err := s.CreateBatch(t.Context(), NewBatch{File: file, CreatedBy: creator, WindowText: "24h", IdempotencyKey: key})
			if created {
				t.Errorf("%s file, key %q: a batch was created", name, key)
			}
			wantErr(t, err, batch.ErrNotFound)
		}
	}
	_, err := s.GetBatch(t.Context(), batch.ID{1}, nil)
	wantErr(t, err, batch.ErrNotFound)
}

// One file may back many batches, each with cursors of its own.
func TestBatchesOfOneFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 10, testModel))
	first, second := batchOf(t, s, file), batchOf(t, s, file)
	d := newDaemon(t, s)
	finish(t, s, d, endings(completed, started(t, s, d, first, 10))...)
	if got := counts(t, s, second); got != (batch.Counts{Total: 10, Pending: 10}) {
		t.Errorf("%+v", got)
	}
	finish(t, s, d, endings(failed, started(t, s, d, second, 4))...)
	check(t, s)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := NewBatch{File: newFile(t, s, templates(1, 10, testModel, otherName)), WindowText: "24h", CreatedBy: creator, IdempotencyKey: "key"}
	const callers = 8
	ids, made := make([]batch.ID, callers), make([]bool, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var err error
			if ids[i], made[i], err = s.CreateBatch(t.Context(), n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created := 0
	for i := range callers {
		if ids[i] != ids[0] {
			t.Errorf("%s and %s", ids[i], ids[0])
		}
		if made[i] {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d were told that they created it", created)
	}
	if n := sqlInt(t, s, `SELECT count(*) FROM cursors`); n != 2 {
		t.Errorf("%d cursors, want 2", n)
	}
	// The key is its owner's own, and so is the file.
	n.CreatedBy = "bob"
	_, _, err := s.CreateBatch(t.Context(), n)
	wantErr(t, err, batch.ErrNotFound)
	sqlExec(t, s, `UPDATE files SET created_by = 'bob'`)
	if other, created, err := s.CreateBatch(t.Context(), n); err != nil || !created || other == ids[0] {
		t.Errorf("bob's: %s, created: %t, %v", other, created, err)
	}
	// The batch is found even when its file could no longer make one.
	sqlExec(t, s, `UPDATE files SET status = 'deleted', deleted_at = now()`)
	n.CreatedBy = creator
	if again, created, err := s.CreateBatch(t.Context(), n); err != nil || created || again != ids[0] {
		t.Errorf("again: %s, created: %t, %v, want %s", again, created, err, ids[0])
	}
	_, err = s.FindBatch(t.Context(), creator, "another")
	wantErr(t, err, batch.ErrNotFound)
	check(t, s)
}

func TestCountsFollowEachMove(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 10)
	d := newDaemon(t, s)
	want := func(step string, want batch.Counts) {
		t.Helper()
		want.Total = 10
		if got := counts(t, s, id); got != want {
			t.Errorf("%s: %+v, want %+v", step, got, want)
		}
		check(t, s)
	}
	want("created", batch.Counts{Pending: 10})
	deliveries := claimed(t, s, id, 6)
	want("claimed", batch.Counts{Pending: 4, InProgress: 6})
	start(t, s, rules(d), deliveries...)
	want("started", batch.Counts{Pending: 4, InProgress: 6})
	finish(t, s, d, completed(deliveries[0]), completed(deliveries[1]), failed(deliveries[2]))
	want("ended", batch.Counts{Pending: 4, InProgress: 3, Completed: 2, Failed: 1})
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: deliveries[3], Retry: true}}); err != nil {
		t.Fatal(err)
	}
	want("returned", batch.Counts{Pending: 4, InProgress: 3, Completed: 2, Failed: 1})

	states, err := s.StateCounts(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wantStates := map[batch.State]int64{batch.Pending: 5, batch.Processing: 2, batch.Completed: 2, batch.Failed: 1}
	if diff := cmp.Diff(wantStates, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestTextIsStoredAsGiven(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	odd := strings.Repeat(`'";--%s\`, 10) + "日本語"
	lines := templates(1, 1, batch.Model(odd))
	lines[0].CustomID = odd
	id := batchOf(t, s, newFile(t, s, lines))
	cursors, err := openCursors(t, s, batch.Model(odd))
	if err != nil || len(cursors) != 1 || cursors[0].Batch != id {
		t.Errorf("%+v, %v", cursors, err)
	}
	check(t, s)
}
