package postgres

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// sliced is a batch of 20, of which 10 are processing and 5 claimed, in a store
// that finishes 4 at a time.
func sliced(t *testing.T) (s *Store, d batch.DaemonID, id batch.ID, processing []Delivery) {
	t.Helper()
	s = newStore(t)
	s.slice = 4
	d = newDaemon(t, s)
	id = newBatch(t, s, 20)
	processing = started(t, s, d, id, 10)
	claimed(t, s, id, 5)
	return s, d, id, processing
}

// refusing makes Postgres refuse results of lines beyond one, so that what f does
// stops in the middle.
func refusing(t *testing.T, s *Store, beyond int, f func() error) {
	t.Helper()
	sqlExec(t, s, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'refused'; END$$`)
	sqlExec(t, s, fmt.Sprintf(`CREATE TRIGGER refuse BEFORE INSERT ON results FOR EACH ROW WHEN (NEW.line > %d) EXECUTE FUNCTION refuse()`, beyond))
	if err := f(); Classify(err) != Suspect {
		t.Fatalf("%v", err)
	}
	sqlExec(t, s, `DROP FUNCTION refuse CASCADE`)
}

// cancelPart does what a cancel does whose process dies after its first slice.
func cancelPart(t *testing.T, s *Store, id batch.ID) {
	t.Helper()
	refusing(t, s, s.slice, func() error {
		_, err := s.CancelBatch(t.Context(), id)
		return err
	})
}

func TestCancelGoesInSlices(t *testing.T) {
	t.Parallel()
	s, _, id, _ := sliced(t)
	b, err := s.CancelBatch(t.Context(), id)
	if err != nil || b.Status != batch.StatusCancelled || b.Counts.Canceled != 20 || b.CancellingAt.IsZero() {
		t.Errorf("%+v, %v", b, err)
	}
	// Each slice is a transaction: 4, 4, 4 and 3 of the 15 that were live.
	if n := sqlInt(t, s, `SELECT count(DISTINCT xmin::text) FROM results`); n != 4 {
		t.Errorf("%d transactions, want 4", n)
	}
	if got := readAll(t, s, id); len(got) != 20 {
		t.Errorf("%d results", len(got))
	}
	check(t, s)
}

// What a crash between two slices leaves is closed to claims, reruns and expiry,
// takes results, and is finished by the leader.
func TestCancelSurvivesACrashBetweenSlices(t *testing.T) {
	t.Parallel()
	s, d, id, processing := sliced(t)
	cancelPart(t, s, id)
	b, err := s.GetBatch(t.Context(), id, nil)
	if err != nil || b.Status != batch.StatusInProgress || b.CancellingAt.IsZero() || b.Counts.Canceled != 9 || b.Counts.Pending != 0 {
		t.Fatalf("%+v, %v", b, err)
	}
	check(t, s)
	if got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 5}}); err != nil || len(got) != 0 {
		t.Errorf("%d claimed, %v", len(got), err)
	}
	_, err = s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Canceled)
	wantErr(t, err, batch.ErrBatchCancelling)
	_, err = s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{1})
	wantErr(t, err, batch.ErrBatchCancelling)
	if got := expireNow(t, s, id); len(got) != 0 {
		t.Errorf("expired %+v", got)
	}
	// The first four are canceled; a call that ends now is in time.
	if n := finish(t, s, d, completed(processing[0]), completed(processing[9])); n != 1 {
		t.Errorf("%d results were stored, want that of the request that is not canceled yet", n)
	}
	resumed, err := s.ResumeCancels(t.Context(), 10)
	if err != nil || len(resumed) != 1 || resumed[0] != id {
		t.Fatalf("resumed %v, %v", resumed, err)
	}
	b, err = s.GetBatch(t.Context(), id, nil)
	if err != nil || b.Status != batch.StatusCancelled || b.Counts.Canceled != 19 || b.Counts.Completed != 1 {
		t.Errorf("%+v, %v", b, err)
	}
	if resumed, err := s.ResumeCancels(t.Context(), 10); err != nil || len(resumed) != 0 {
		t.Errorf("resumed %v once more, %v", resumed, err)
	}
	_, err = s.CancelBatch(t.Context(), id)
	wantErr(t, err, batch.ErrBatchFinished)
	check(t, s)
}

// Another cancel goes on where the first one stopped.
func TestCancelAgainAfterACrash(t *testing.T) {
	t.Parallel()
	s, _, id, _ := sliced(t)
	cancelPart(t, s, id)
	if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Status != batch.StatusCancelled || b.Counts.Canceled != 20 {
		t.Errorf("%+v, %v", b, err)
	}
	if n := retried(t, s, id, batch.Canceled); n != 20 {
		t.Errorf("%d were rerun", n)
	}
}

// A batch whose last calls completed between two slices was not cancelled, but
// for the requests that were.
func TestCancelOfWhatCompletesMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 2)
	deliveries := started(t, s, d, id, 2)
	sqlExec(t, s, cancellingSQL, [16]byte(id))
	finish(t, s, d, endings(completed, deliveries)...)
	if b, err := s.GetBatch(t.Context(), id, nil); err != nil || b.Status != batch.StatusCompleted {
		t.Errorf("%+v, %v", b, err)
	}
	_, err := s.CancelBatch(t.Context(), id)
	wantErr(t, err, batch.ErrBatchFinished)
	check(t, s)
}

func TestDeleteAndExpireGoInSlices(t *testing.T) {
	t.Parallel()
	s, _, id, _ := sliced(t)
	if got := expireNow(t, s, id); len(got) != 1 || got[0] != (EndedBatch{Batch: id, Requests: 10}) {
		t.Errorf("expired %+v", got)
	}
	check(t, s)
	if cancelled, err := s.DeleteBatch(t.Context(), id); err != nil || !cancelled {
		t.Errorf("cancelled: %t, %v", cancelled, err)
	}
	check(t, s)
	_, err := s.GetBatch(t.Context(), id, nil)
	wantErr(t, err, batch.ErrNotFound)
}

// The batches of a file are marked in the transaction that deletes it, so that
// the leader finishes their cancels if the process dies.
func TestDeleteFileSurvivesACrash(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 3, testModel))
	ids := []batch.ID{batchOf(t, s, file), batchOf(t, s, file)}
	refusing(t, s, 0, func() error {
		for _, id := range ids {
			claimed(t, s, id, 2)
		}
		_, err := s.DeleteFile(t.Context(), file)
		return err
	})
	_, err := s.GetFile(t.Context(), creator, file)
	wantErr(t, err, batch.ErrNotFound)
	if resumed, err := s.ResumeCancels(t.Context(), 10); err != nil || len(resumed) != 2 {
		t.Errorf("resumed %v, %v", resumed, err)
	}
	for _, id := range ids {
		if b, err := s.GetBatch(t.Context(), id, nil); err != nil || b.Status != batch.StatusCancelled {
			t.Errorf("%+v, %v", b, err)
		}
	}
	check(t, s)
}

// A batch that cannot be expired or cancelled keeps no other from it.
func TestOneBatchDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var ids []batch.ID
	for range 5 {
		ids = append(ids, newBatch(t, s, 2))
	}
	broken := map[batch.ID]bool{ids[0]: true, ids[1]: true, ids[2]: true}
	for i, id := range ids {
		overdue(t, s, id, time.Hour-time.Duration(i)*time.Minute)
		if broken[id] {
			sqlExec(t, s, `UPDATE batches SET next_seq = $2 WHERE id = $1`, [16]byte(id), int64(math.MaxInt64))
		}
	}
	// Two at a time, of which both fail.
	got, err := s.ExpireBatches(t.Context(), 0, 2)
	if err == nil || !strings.Contains(err.Error(), ids[0].String()) {
		t.Errorf("error is %v, want one that names %s", err, ids[0])
	}
	if len(got) != 2 || got[0].Batch != ids[3] || got[1].Batch != ids[4] {
		t.Errorf("expired %+v, want %v", got, ids[3:])
	}
	sqlExec(t, s, `UPDATE batches SET expires_at = now() + interval '1 h'`)
	cancelled := newBatch(t, s, 2)
	sqlExec(t, s, `UPDATE batches SET cancelling_at = now() WHERE status = 'in_progress'`)
	resumed, err := s.ResumeCancels(t.Context(), 10)
	if err == nil || len(resumed) != 1 || resumed[0] != cancelled {
		t.Errorf("resumed %v, %v", resumed, err)
	}
	sqlExec(t, s, `UPDATE batches SET next_seq = 0 WHERE next_seq = $1`, int64(math.MaxInt64))
	if resumed, err := s.ResumeCancels(t.Context(), 10); err != nil || len(resumed) != 3 {
		t.Errorf("resumed %v, %v", resumed, err)
	}
	check(t, s)
}

// nearTheEnd puts a batch before the end of its 32-bit places, as very many cancels
// and reruns do.
func nearTheEnd(t *testing.T, s *Store, id batch.ID) {
	t.Helper()
	sqlExec(t, s, `UPDATE batches SET next_seq = 2147483646, retries = 1 WHERE id = $1`, [16]byte(id))
}

// Places in the output go on beyond 32 bits: results, cancels and reruns.
func TestPlacesBeyond32Bits(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 20)
	nearTheEnd(t, s, id)
	deliveries := started(t, s, d, id, 6)
	if n := finish(t, s, d, completed(deliveries[0]), completed(deliveries[1]), failed(deliveries[2]), failed(deliveries[3])); n != 4 {
		t.Errorf("%d results were stored", n)
	}
	if out, err := s.CancelRequests(t.Context(), id, []int32{5, 20}); err != nil || len(out.Changed) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	check(t, s)
	for range 3 {
		if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Counts.Done() != 20 {
			t.Fatalf("%+v, %v", b, err)
		}
		check(t, s)
		if got := readAll(t, s, id); len(got) != 20 {
			t.Errorf("%d results", len(got))
		}
		if got := page(t, s, id, math.MaxInt32, 100); len(got) == 0 {
			t.Error("no result is beyond 32 bits")
		}
		if lines, err := s.OtherLines(t.Context(), id, 0, 0, 100); err != nil || len(lines) == 0 {
			t.Errorf("%d lines, %v", len(lines), err)
		}
		if n := retried(t, s, id, batch.Canceled, batch.Failed); n == 0 {
			t.Error("nothing was rerun")
		}
	}
	if got := expireNow(t, s, id); len(got) != 1 || !got[0].Finished {
		t.Errorf("expired %+v", got)
	}
	check(t, s)
}

// Where a large table kept 32 bits, everything works as before, and a rerun is
// refused that could run out of places.
func TestPlacesOf32Bits(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sqlExec(t, s, `ALTER TABLE results ALTER seq TYPE int`)
	sqlExec(t, s, `ALTER TABLE batches ALTER next_seq TYPE int, ALTER skip_seq TYPE int, ALTER skip_end TYPE int`)
	d := newDaemon(t, s)
	id := newBatch(t, s, 20)
	deliveries := started(t, s, d, id, 4)
	finish(t, s, d, completed(deliveries[0]), failed(deliveries[1]))
	if b, err := s.CancelBatch(t.Context(), id); err != nil || b.Counts.Done() != 20 {
		t.Fatalf("%+v, %v", b, err)
	}
	if got := readAll(t, s, id); len(got) != 20 {
		t.Errorf("%d results", len(got))
	}
	if n := retried(t, s, id, batch.Canceled); n != 18 {
		t.Errorf("%d were rerun", n)
	}
	nearTheEnd(t, s, id)
	_, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Failed)
	wantErr(t, err, batch.ErrRerunLimit)
	_, err = s.RerunLines(t.Context(), id, batch.Allowance{}, []int32{2})
	wantErr(t, err, batch.ErrRerunLimit)
	sqlExec(t, s, `UPDATE batches SET next_seq = 100 WHERE id = $1`, [16]byte(id))
	check(t, s)
}

// A rerun in slices stops where its owner has begun so much else meanwhile that the
// rest of it would exceed the allowance.
func TestRerunInSlicesIsWithinTheAllowance(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.slice = 4
	d := newDaemon(t, s)
	id := newBatch(t, s, 12)
	finish(t, s, d, endings(failed, started(t, s, d, id, 12))...)
	other := newBatch(t, s, 3)
	if _, err := s.CancelBatch(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	// Between the first slice and the second the other batch is rerun.
	sqlExec(t, s, `CREATE FUNCTION begin_other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE cursors c SET open = true, skipped = 0 FROM batches b WHERE b.id = c.batch_id AND b.status = 'cancelled';
		UPDATE batches SET status = 'in_progress', canceled = 0, finished_at = NULL, cancelling_at = NULL,
		       skipped_as = NULL, skip_seq = NULL, skip_line = NULL, skip_end = NULL, retries = 1 WHERE status = 'cancelled';
		RETURN NULL; END $$`)
	sqlExec(t, s, `CREATE TRIGGER begin_other AFTER UPDATE OF retries ON batches FOR EACH ROW
		WHEN (NEW.retries = 1 AND OLD.status = 'failed') EXECUTE FUNCTION begin_other()`)
	var over *batch.AllowanceError
	n, err := s.RerunRequests(t.Context(), id, batch.Allowance{QueuedRequests: 12}, batch.Failed)
	if !errors.As(err, &over) || n != 8 {
		t.Errorf("%d of 12 were rerun beside 3 others, %v; want 8 and the allowance of 12", n, err)
	}
	if n := sqlInt(t, s, inProgressRequests); n != 11 {
		t.Errorf("%d are in progress", n)
	}
	check(t, s)
	if n, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Failed); err != nil || n != 4 {
		t.Errorf("%d were rerun afterwards, %v", n, err)
	}
}

const inProgressRequests = `SELECT sum(total - completed - failed - canceled - expired)::bigint FROM batches WHERE status = 'in_progress'`

// What a rerun makes pending counts against its owner's allowance, all of it and
// before anything is changed.
func TestRerunIsWithinTheAllowance(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	first, second := newBatch(t, s, 5), newBatch(t, s, 5)
	finish(t, s, d, endings(failed, started(t, s, d, first, 5))...)
	if _, err := s.CancelBatch(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	var over *batch.AllowanceError
	for name, a := range map[string]batch.Allowance{"batches": {ActiveBatches: 1}, "requests": {QueuedRequests: 7}} {
		if n, err := s.RerunRequests(t.Context(), first, a, batch.Failed); err != nil || n != 5 {
			t.Fatalf("%s: %d rerun of an owner with nothing in progress, %v", name, n, err)
		}
		if n, err := s.RerunRequests(t.Context(), second, a, batch.Canceled); !errors.As(err, &over) || n != 0 {
			t.Errorf("%s: %d rerun beyond the allowance, %v", name, n, err)
		}
		if out, err := s.RerunLines(t.Context(), second, a, []int32{1, 2, 3}); !errors.As(err, &over) || len(out.Changed) != 0 {
			t.Errorf("%s: lines rerun beyond the allowance: %+v, %v", name, out, err)
		}
		if b, err := s.GetBatch(t.Context(), second, nil); err != nil || b.Status != batch.StatusCancelled || b.Counts.Canceled != 5 {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
		due, err := s.claimAnyDue(t.Context(), testModel, 10, nil)
		if err != nil || len(due) != 5 {
			t.Fatalf("%s: %d due, %v", name, len(due), err)
		}
		deliveries := delivered(due, 1)
		start(t, s, rules(d), deliveries...)
		finish(t, s, d, endings(failed, deliveries)...)
	}
	// Another request of a batch in progress is no other batch.
	third := newBatch(t, s, 2)
	finish(t, s, d, failed(started(t, s, d, third, 1)[0]))
	if n, err := s.RerunRequests(t.Context(), third, batch.Allowance{ActiveBatches: 1}, batch.Failed); err != nil || n != 1 {
		t.Errorf("%d rerun of the one batch in progress, %v", n, err)
	}
	check(t, s)
}
