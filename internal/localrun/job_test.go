package localrun

import (
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	const a, b = "http://a", "http://b"
	job := func(endpoint string, status batch.Status) postgres.Job {
		return postgres.Job{NewJob: postgres.NewJob{Endpoint: endpoint}, Status: status}
	}
	done, open := batch.StatusCompleted, batch.StatusInProgress
	for name, tt := range map[string]struct {
		jobs        []postgres.Job // newest first
		same, other int            // their indices; -1: none
	}{
		"the newest of the endpoint":    {[]postgres.Job{job(b, open), job(a, done), job(a, open)}, 1, 0},
		"an endpoint that is not known": {[]postgres.Job{job("", open)}, 0, -1},
		"an unfinished one of others":   {[]postgres.Job{job(b, done), job("http://c", open), job(b, open)}, -1, 1},
		"a finished one of others":      {[]postgres.Job{job(b, done), job(b, done)}, -1, 0},
	} {
		same, other := choose(tt.jobs, a)
		at := func(j *postgres.Job) int {
			for i := range tt.jobs {
				if j == &tt.jobs[i] {
					return i
				}
			}
			return -1
		}
		if at(same) != tt.same || at(other) != tt.other {
			t.Errorf("%s: %d and %d, want %d and %d", name, at(same), at(other), tt.same, tt.other)
		}
	}
}

// No credential gets into the name of an endpoint.
func TestEndpointHoldsNoCredential(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"http://me:secret@host:8000/v1": "http://host:8000/v1",
		"https://host":                  "https://host",
		"http://%zz":                    "",
	} {
		if got := withoutUser(given); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
