package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func jobOf(t testing.TB, s *Store, file batch.FileID, job NewJob) batch.ID {
	t.Helper()
	id, created, err := s.CreateBatch(t.Context(), NewBatch{
		File: file, CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: creator, Job: &job,
	})
	if err != nil || !created {
		t.Fatalf("created: %t, err: %v", created, err)
	}
	return id
}

func TestJobs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lines := templates(1, 4, testModel, otherName)
	file, other := newFile(t, s, lines), newFile(t, s, templates(1, 3, testModel))
	first := jobOf(t, s, file, NewJob{Input: "a.jsonl", Endpoint: "http://one"})
	batchOf(t, s, file) // no job
	second := jobOf(t, s, file, NewJob{Input: "a.jsonl", Endpoint: "http://one"})
	third := jobOf(t, s, other, NewJob{Input: "b.jsonl", Endpoint: "mock"})
	if err := s.SetJobEndpoint(t.Context(), second, "http://two"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CancelBatch(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	a := func(id batch.ID, endpoint string) Job {
		return Job{Batch: id, File: file, Status: batch.StatusInProgress, NewJob: NewJob{Input: "a.jsonl", Endpoint: endpoint}}
	}
	want := []Job{
		{Batch: third, File: other, Status: batch.StatusCancelled, NewJob: NewJob{Input: "b.jsonl", Endpoint: "mock"}},
		a(second, "http://two"), a(first, "http://one"),
	}
	got, err := s.Jobs(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, jobs (-want +got):\n%s", err, diff)
	}
	got, err = s.JobsOf(t.Context(), summary(lines).SHA256)
	if diff := cmp.Diff(want[1:], got); diff != "" || err != nil {
		t.Errorf("%v, jobs of the file (-want +got):\n%s", err, diff)
	}
	models, err := s.FileModels(t.Context(), file)
	if err != nil || len(models) != 2 {
		t.Errorf("models %v, %v", models, err)
	}
	unfinished, err := s.UnfinishedBatches(t.Context())
	if err != nil || len(unfinished) != 3 {
		t.Errorf("unfinished: %v, %v", unfinished, err)
	}
}

// A job goes with its rows, and its file with the last batch of it.
func TestRemoveJob(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 4, testModel))
	first, second := jobOf(t, s, file, NewJob{Input: "a"}), jobOf(t, s, file, NewJob{Input: "a"})
	for _, step := range []struct {
		id    batch.ID
		left  int
		files int64
	}{{first, 1, 1}, {second, 0, 0}} {
		if err := s.RemoveJob(t.Context(), Job{Batch: step.id, File: file}); err != nil {
			t.Fatal(err)
		}
		jobs, err := s.Jobs(t.Context())
		if err != nil || len(jobs) != step.left {
			t.Errorf("%d jobs are left, %v, want %d", len(jobs), err, step.left)
		}
		if files, _, _ := stored(t, s, file); files != step.files {
			t.Errorf("%d files are left, want %d", files, step.files)
		}
		check(t, s)
	}
	wantErr(t, s.RemoveJob(t.Context(), Job{Batch: second, File: file}), batch.ErrNotFound)
}
