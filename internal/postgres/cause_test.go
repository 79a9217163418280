package postgres

import (
	"testing"

	"fusillade/internal/batch"
)

// What ends from outside, by a cancel or at its deadline, keeps its last failure.
func TestLastFailureIsKept(t *testing.T) {
	t.Parallel()
	const want = "its last call ended with not_found (status 404): no such model"
	for name, end := range map[string]func(s *Store, id batch.ID) error{
		"batch": func(s *Store, id batch.ID) error { _, err := s.CancelBatch(t.Context(), id); return err },
		"line":  func(s *Store, id batch.ID) error { _, err := s.CancelRequests(t.Context(), id, []int32{1}); return err },
	} {
		s := newStore(t)
		d, id := newDaemon(t, s), newBatch(t, s, 2)
		delivery := started(t, s, d, id, 1)[0]
		failed := Release{Delivery: delivery, Retry: true, Reason: batch.NotFound, StatusCode: 404, Cause: "no such model"}
		if _, err := s.Finish(t.Context(), d, nil, []Release{failed}); err != nil {
			t.Fatal(err)
		}
		if err := end(s, id); err != nil {
			t.Fatal(err)
		}
		results, err := s.Results(t.Context(), id, 0, 10)
		if err != nil || len(results) == 0 || results[0].Cause != want || results[0].StatusCode != 0 {
			t.Errorf("%s: %+v, %v, want the cause %q", name, results, err, want)
		}
	}
}
