package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// otherEndpoint is a second mock endpoint.
func otherEndpoint(t *testing.T) (*mock.Server, string) {
	t.Helper()
	endpoint, err := mock.New(mock.Config{Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	return endpoint, server.URL
}

// jobID returns the id of the job of an input, as jobs ls lists it.
func (c *cluster) jobID(input string) (id batch.ID) {
	c.t.Helper()
	jobs, err := c.store.Jobs(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, j := range jobs {
		if j.Input == filepath.Base(input) {
			return j.Batch
		}
	}
	c.t.Fatalf("no job of %s", input)
	return id
}

// stoppedJob runs a file of n requests and stops it with some of them done. It
// returns the arguments with which it goes on.
func (c *cluster) stoppedJob(n int) (input, out string, args []string) {
	c.t.Helper()
	input, out = requests(c.t, n, "gpt-4"), filepath.Join(c.t.TempDir(), "A.out.jsonl")
	args = []string{"run", input, "-o", out, "--data-dir", c.t.TempDir(), "--concurrency", "4"}
	p := c.start("fusillade", args...)
	awaitCalls(c.t, c.mock, int64(n/4))
	p.Signal(syscall.SIGINT)
	p.WantExit(c.t, 130, "run the same command again to go on", out)
	return input, out, args
}

func (c *cluster) dataDir(args []string) string {
	for i, arg := range args {
		if arg == "--data-dir" {
			return args[i+1]
		}
	}
	c.t.Fatal("no --data-dir")
	return ""
}

// What one run left is not worked on by the next one of another file, whatever
// its endpoint; and it goes on with its own endpoint only.
func TestRunsShareADirectory(t *testing.T) {
	t.Parallel()
	const n = 300
	c := newCluster(t, mock.Settings{Latency: "20ms"})
	other, otherURL := otherEndpoint(t)
	input, out, args := c.stoppedJob(n)
	data := c.dataDir(args)
	partial := len(customIDs(t, out))
	if partial == 0 || partial >= n {
		t.Fatalf("%d results after the stop, want some of %d", partial, n)
	}
	calls := c.mock.Stats().Calls
	job := c.jobID(input)

	second := filepath.Join(t.TempDir(), "B.jsonl")
	if err := os.Rename(requests(t, 20, "gpt-4"), second); err != nil {
		t.Fatal(err)
	}
	outB := filepath.Join(t.TempDir(), "B.out.jsonl")
	c.start("fusillade", "run", second, "-o", outB, "--data-dir", data, "--upstream", otherURL).
		WantExit(t, 0, "1 unfinished job of "+filepath.Base(input)+" is here: "+job.String(), "fusillade jobs ls", "20 of 20 requests completed")
	if got := other.Stats().Calls; got != 20 {
		t.Errorf("%d calls of the second endpoint, want 20", got)
	}
	if got := c.mock.Stats().Calls; got != calls {
		t.Errorf("%d more calls of the first endpoint", got-calls)
	}
	c.check(job)

	c.start("fusillade", append(args, "--upstream", otherURL)...).
		WantExit(t, 2, "--change-endpoint", "--again", otherURL, job.String())
	c.start("fusillade", append(args, "--mock", "--mock-latency", "0s")...).WantExit(t, 2, "the mock endpoint", "--change-endpoint")
	if b, err := c.store.GetBatch(t.Context(), job, nil); err != nil || b.Status.Terminal() || other.Stats().Calls != 20 {
		t.Errorf("after refusals: %+v, %v, %d calls of the other endpoint", b.Counts, err, other.Stats().Calls)
	}

	c.start("fusillade", args...).WantExit(t, 0, "going on with "+job.String(), "300 of 300 requests completed")
	if got := len(customIDs(t, out)); got != n {
		t.Errorf("%d results, want %d", got, n)
	}
	if got := other.Stats().Calls; got != 20 {
		t.Errorf("%d calls of the second endpoint, want 20", got)
	}
	for id, k := range c.mock.CustomIDs() {
		if k != 1 {
			t.Errorf("%s was called %d times", id, k)
		}
	}
	c.check(job)

	// Finished, it is not run again because the address changed.
	c.start("fusillade", append(args, "--upstream", otherURL)...).WantExit(t, 2, "was run before", "--again")
	c.start("fusillade", append(args, "--upstream", otherURL, "--change-endpoint")...).WantExit(t, 0, "nothing is called")
	if got := other.Stats().Calls; got != 20 {
		t.Errorf("%d calls of the second endpoint, want 20", got)
	}
}

// With the flag the rest of a job goes to another endpoint.
func TestChangeEndpoint(t *testing.T) {
	t.Parallel()
	const n = 200
	c := newCluster(t, mock.Settings{Latency: "20ms"})
	other, otherURL := otherEndpoint(t)
	_, out, args := c.stoppedJob(n)
	done := len(customIDs(t, out))
	args = append(args, "--upstream", otherURL)
	c.start("fusillade", append(args, "--change-endpoint")...).WantExit(t, 0, "it was begun with", "200 of 200")
	if got := other.Stats().Calls; got != int64(n-done) {
		t.Errorf("%d calls of the other endpoint, want the %d that were left", got, n-done)
	}
	c.start("fusillade", args...).WantExit(t, 0, "nothing is called") // it is the job's endpoint now
}

// serve shows and steers the jobs of run, and works on those alone that were
// begun with its endpoint.
func TestServeAndJobsOfRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "20ms"})
	other, otherURL := otherEndpoint(t)
	input, _, args := c.stoppedJob(200)
	job := c.jobID(input)
	server, s := c.serve("--data-dir", c.dataDir(args), "--upstream", otherURL)
	client := s.sdk("none-needed")
	if !strings.Contains(server.Log(), "1 unfinished job of "+filepath.Base(input)+" is here") {
		t.Errorf("the job is not named:\n%s", server.Log())
	}
	b, err := client.Batches.Get(t.Context(), job.String())
	if err != nil || b.Status != "in_progress" {
		t.Errorf("the job is %s, %v", b.Status, err)
	}
	// Others are worked on meanwhile.
	file, err := client.Files.New(t.Context(), uploadParams(lines(30, "gpt-4")))
	if err != nil {
		t.Fatal(err)
	}
	mine, err := client.Batches.New(t.Context(), batchParams(file.ID))
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "the server's own batch is completed", func() bool {
		b, err := client.Batches.Get(t.Context(), mine.ID)
		return err == nil && b.Status == "completed"
	})
	if got := other.Stats().Calls; got != 30 {
		t.Errorf("%d calls of the server's endpoint, want 30", got)
	}
	server.Signal(syscall.SIGTERM)
	server.WantExit(t, 0)

	server, _ = c.serve("--data-dir", c.dataDir(args)) // the job's endpoint
	if b := c.awaitEnd(job); b.Counts.Completed != 200 {
		t.Errorf("with its endpoint the job ended with %+v", b.Counts)
	}
	server.Signal(syscall.SIGTERM)
	server.WantExit(t, 0)
}

// A job that has finished with another endpoint is not rerun by serve: its answers
// would be those of two.
func TestServeRerunsNoJobOfAnotherEndpoint(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Errors: "400=1"})
	other, otherURL := otherEndpoint(t)
	in, data := requests(t, 3, "gpt-4"), t.TempDir()
	c.start("fusillade", "run", in, "-o", filepath.Join(t.TempDir(), "out.jsonl"), "--data-dir", data).WantExit(t, 1, "--rerun-failed")
	job := c.jobID(in)
	server, s := c.serve("--data-dir", data, "--upstream", otherURL)
	caller := &http.Client{Timeout: testenv.Patience}
	resp, err := caller.Post(s.url+"/batches/"+job.String()+"/rerun", "application/json", strings.NewReader(`{"statuses":["failed"]}`))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusConflict || !strings.Contains(string(answer), "another endpoint") {
		t.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	if got := other.Stats().Calls; got != 0 {
		t.Errorf("%d calls of the other endpoint", got)
	}
	server.Signal(syscall.SIGTERM)
	server.WantExit(t, 0)
}

// What failed is repeated, and only that.
func TestRerunFailed(t *testing.T) {
	t.Parallel()
	const n = 120
	c := newCluster(t, mock.Settings{Errors: "400=0.3"})
	in, out := requests(t, n, "gpt-4"), filepath.Join(t.TempDir(), "out.jsonl")
	args := []string{"run", "-i", in, "-o", out, "--data-dir", t.TempDir()}
	c.start("fusillade", args...).WantExit(t, 1, "--rerun-failed")
	good := customIDs(t, out)
	if len(good) == 0 || len(good) == n {
		t.Fatalf("%d of %d completed, want some", len(good), n)
	}
	if err := c.mock.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	calls := c.mock.Stats().Calls
	c.start("fusillade", args...).WantExit(t, 1, "nothing is called", "--rerun-failed")
	c.start("fusillade", append(args, "--rerun-failed")...).WantExit(t, 0, "120 of 120 requests completed")
	if got := len(customIDs(t, out)); got != n {
		t.Errorf("%d results, want %d", got, n)
	}
	if got := c.mock.Stats().Calls - calls; got != int64(n-len(good)) {
		t.Errorf("%d calls to repeat %d", got, n-len(good))
	}
	for id, k := range c.mock.CustomIDs() {
		if good[id] && k != 1 {
			t.Errorf("%s had completed and was called %d times", id, k)
		}
	}
}

// A job whose window is over is repeated with another one.
func TestRerunExpired(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "20ms"}, "FUSILLADE_CANCELLATION_POLL_INTERVAL_MS=100")
	input, out, args := c.stoppedJob(150)
	for _, table := range []string{"batches", "cursors"} {
		if _, err := c.db.Exec(t.Context(), `UPDATE `+table+` SET expires_at = expires_at - interval '25 h'`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.db.Exec(t.Context(), `UPDATE batches SET created_at = created_at - interval '25 h'`); err != nil {
		t.Fatal(err)
	}
	c.start("fusillade", args...).WantExit(t, 1, "--rerun-failed")
	c.start("fusillade", append(args, "--retry-failed")...).WantExit(t, 0, "150 of 150 requests completed")
	if got := len(customIDs(t, out)); got != 150 {
		t.Errorf("%d results, want 150", got)
	}
	c.check(c.jobID(input))
}

// --again begins anew even while the job is unfinished, and jobs are listed and
// removed.
func TestAgainAndJobs(t *testing.T) {
	t.Parallel()
	const n = 200
	c := newCluster(t, mock.Settings{Latency: "10ms"})
	input, out, args := c.stoppedJob(n)
	first := c.jobID(input)
	before := c.mock.Stats().Calls
	c.start("fusillade", append(args, "--again")...).WantExit(t, 0, "the unfinished "+first.String()+" is cancelled", "200 of 200")
	if got := c.mock.Stats().Calls - before; got != n {
		t.Errorf("%d calls, want %d", got, n)
	}
	if got := len(customIDs(t, out)); got != n {
		t.Errorf("%d results, want %d", got, n)
	}
	list := c.run("jobs", "ls", "--json")
	if strings.Count(list, "\n") != 1 || !strings.Contains(list, first.String()) || !strings.Contains(list, `"cancelled"`) {
		t.Errorf("jobs:\n%s", list)
	}
	c.run("jobs", "rm", first.String())
	second := c.jobID(input)
	if table := c.run("jobs", "ls"); strings.Contains(table, first.String()) || !strings.Contains(table, second.String()) {
		t.Errorf("jobs after rm:\n%s", table)
	}
	c.start("fusillade", "jobs", "rm", first.String()).WantExit(t, 2, "jobs ls")
	c.run("jobs", "rm", "--finished")
	if got := c.count(`SELECT (SELECT count(*) FROM batches) + (SELECT count(*) FROM files) + (SELECT count(*) FROM templates)`); got != 0 {
		t.Errorf("%d rows are left", got)
	}
}
