package mutations

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/protocol"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var mutate = flag.Bool("mutate", false, "run the tests of the fence once for every mutation (minutes)")

// mutation takes one condition out of a statement of internal/postgres.
type mutation struct {
	file, name, from, to string
	// equivalent says why nothing can come of it. Then it must not be found.
	equivalent string
}

// A CHECK of the table: a row has a daemon if and only if it is processing.
const hasDaemon = "a row with a daemon is processing, by a CHECK of the table"

var mutations = []mutation{
	{"request_start.go", "start: the claim", "r.ctid = i.place AND r.claim = i.claim\n       AND (r.delivery <", "r.ctid = i.place\n       AND (r.delivery <", ""},
	{"request_start.go", "start: the delivery", "AND (r.delivery < i.delivery OR r.delivery = i.delivery AND r.daemon_id = $5)", "", ""},
	{"request_start.go", "start: the same delivery, by its daemon alone", "r.delivery = i.delivery AND r.daemon_id = $5", "r.delivery = i.delivery", ""},
	{"request_start.go", "start: the same delivery again", " OR r.delivery = i.delivery AND r.daemon_id = $5", "", ""},
	{"request_start.go", "start: not what waits for a claim", "       AND r.due_at IS NULL\n       AND (r.not_before", "       AND (r.not_before", ""},
	{"request_start.go", "start: not in backoff", "       AND (r.not_before IS NULL OR r.not_before <= now() + interval '100 ms')\n", "", ""},
	{"request_start.go", "start: only from the dead", "AND (r.state <> 'processing' OR", "AND (true OR", ""},
	{"request_start.go", "start: what nobody processes", "AND (r.state <> 'processing' OR", "AND (", "a row that is not processing has no daemon, so there is none that lives"},
	{"request_start.go", "start: from oneself", "OR r.daemon_id = $5 OR r.started_at", "OR r.started_at", ""},
	{"request_start.go", "start: past the processing timeout", "r.started_at < now() - $6::interval OR NOT", "$6::interval IS NULL OR NOT", ""},
	{"request_start.go", "start: from who is declared dead", "d.id = r.daemon_id AND d.status <> 'dead' AND d.last_heartbeat > now() - $7::interval))\n    RETURNING", "d.id = r.daemon_id AND d.last_heartbeat > now() - $7::interval))\n    RETURNING", ""},
	{"request_start.go", "start: from who is stale", "AND d.last_heartbeat > now() - $7::interval))\n    RETURNING", "AND $7::interval IS NOT NULL))\n    RETURNING", ""},
	{"request_start.go", "refusal: the claim", "WHERE r.claim = i.claim AND r.due_at IS NULL`", "WHERE i.claim > 0 AND r.due_at IS NULL`", ""},
	{"request_start.go", "refusal: not what waits for a claim", "WHERE r.claim = i.claim AND r.due_at IS NULL`", "WHERE r.claim = i.claim`", ""},
	{"request_renew.go", "renewal: the claim", "r.ctid = i.place AND r.claim = i.claim AND", "r.ctid = i.place AND", ""},
	{"request_renew.go", "renewal: the delivery", "AND r.delivery = i.delivery AND", "AND", ""},
	{"request_renew.go", "renewal: processing", "r.state = 'processing' AND r.daemon_id = $1", "r.daemon_id = $1", hasDaemon},
	{"request_renew.go", "renewal: the daemon", "AND r.daemon_id = $1", "AND $1::uuid IS NOT NULL", ""},
	{"request_finish.go", "result: the claim", "     WHERE r.ctid = i.place AND r.claim = i.claim AND", "     WHERE r.ctid = i.place AND", ""},
	{"request_finish.go", "result: the delivery", "AND r.delivery = i.delivery\n       AND r.state", "AND r.state", ""},
	{"request_finish.go", "result: processing", "\n       AND r.state = 'processing' AND r.daemon_id = $1\n    RETURNING", "\n       AND r.daemon_id = $1\n    RETURNING", hasDaemon},
	{"request_finish.go", "result: the daemon", "\n       AND r.state = 'processing' AND r.daemon_id = $1\n    RETURNING", "\n       AND r.state = 'processing' AND $1::uuid IS NOT NULL\n    RETURNING", ""},
	{"request_finish.go", "retry: the claim", "\n WHERE r.ctid = i.place AND r.claim = i.claim AND", "\n WHERE r.ctid = i.place AND", ""},
	{"request_finish.go", "retry: the delivery", "AND r.delivery = i.delivery\n   AND r.state", "AND r.state", ""},
	{"request_finish.go", "retry: processing", "\n   AND r.state = 'processing' AND r.daemon_id = $1\nRETURNING", "\n   AND r.daemon_id = $1\nRETURNING", hasDaemon},
	{"request_finish.go", "retry: the daemon", "\n   AND r.state = 'processing' AND r.daemon_id = $1\nRETURNING", "\n   AND r.state = 'processing' AND $1::uuid IS NOT NULL\nRETURNING", ""},
	{"request_release.go", "release: the claim", "r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery`", "r.ctid = i.place AND r.delivery = i.delivery`", ""},
	{"request_release.go", "release: the delivery", "r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery`", "r.ctid = i.place AND r.claim = i.claim`", ""},
	{"request_reclaim.go", "reclaim: processing", "WHERE state = 'processing' AND daemon_id = ANY ($1::uuid[])", "WHERE daemon_id = ANY ($1::uuid[])", hasDaemon},
	{"daemon_dead.go", "death: the heartbeat", "AND last_heartbeat < now() - $1::interval`", "AND $1::interval IS NOT NULL`", ""},
	{"daemon.go", "heartbeat: not of the dead", "\n WHERE id = $1 AND status <> 'dead'`\n\n\tendDaemonSQL", "\n WHERE id = $1`\n\n\tendDaemonSQL", ""},
	{"batch_finish.go", "expiry: not what is being called", " AND ($2 OR state <> 'processing') ", " AND ($2 OR true) ", ""},
	{"batch_finish.go", "end: what is not claimed yet", "skipped = total - claimed, open = false WHERE batch_id = $1 AND open\n", "skipped = total - claimed, open = false WHERE batch_id = $1\n", ""},
	{"batch_finish.go", "end: of one batch", "DELETE FROM requests WHERE batch_id = $1 AND line", "DELETE FROM requests WHERE line", ""},
	{"batch_finish.go", "end: the cursors of one batch", "open = false WHERE batch_id = $1 AND open", "open = false WHERE open", ""},
	{"batch_finish.go", "status: cancelled", "WHEN COALESCE(b.cancelling_at, b.budget_exceeded_at) IS NOT NULL AND b.canceled", "WHEN false AND b.canceled", ""},
	{"batch_finish.go", "status: expired", "WHEN b.expired + n.expired > 0 THEN", "WHEN n.expired > 0 THEN", ""},
	{"batch_expire.go", "expiry: the deadline", "b.status = 'in_progress' AND b.expires_at <= now() - $1::interval AND", "b.status = 'in_progress' AND $1::interval IS NOT NULL AND", "it only lists candidates: each is asked again under its lock"},
	{"batch_expire.go", "expiry: the deadline, under the lock", "SELECT status = 'in_progress' AND expires_at <= now() - $2::interval", "SELECT status = 'in_progress' AND $2::interval IS NOT NULL", ""},
	{"batch_rerun.go", "rerun: the states", "AND seq < $4 AND state = ANY ($5::text[]::request_state[])", "AND seq < $4 AND $5::text[] IS NOT NULL", ""},
	{"batch_rerun.go", "rerun of lines: not what completed", "AND line = ANY ($3::int[]) AND state IN ('failed', 'canceled', 'expired')", "AND line = ANY ($3::int[])", ""},
	{"batch_rerun.go", "rerun of lines: what was skipped", "AND model = t.model AND skipped > 0 AND last_line < t.line LIMIT 1", "AND model = t.model AND last_line < t.line LIMIT 1", ""},
	{"batch_rerun.go", "rerun of lines: what is not live", "       AND (SELECT 1 FROM requests WHERE batch_id = $1 AND line = t.line) IS NULL\n", "", ""},
	{"batch_rerun.go", "rerun of lines: what has no result", "       AND (SELECT 1 FROM results WHERE batch_id = $1 AND line = t.line) IS NULL\n", "", ""},
	{"request_due.go", "claim of what is due: not of a batch that is being cancelled", "WHERE id = q.batch_id AND cancelling_at IS NULL LIMIT 1", "WHERE id = q.batch_id LIMIT 1", ""},
	{"request_reclaim.go", "reclaim: the dead", "AND daemon_id = ANY ($1::uuid[])", "AND $1::uuid[] IS NOT NULL", ""},
}

// fenceTests find each mutation by a test of its own, the same at every run.
const fenceTests = "^Test(Start|RenewStarts|FinishIsFenced|Return|ReleaseOfClaimsIsFenced|Reclaim|ConcurrentTakeovers|CancelBatch|ExpireBatches|RetryRequests|RetryLines|DaemonLife|DeclareDead)"

// modelTest plays at random. It finds many of the mutations, but not all at every
// run, so it decides only about those that must not be found.
const modelTest = "^TestStoreAgreesWithModel$"

var failedTest = regexp.MustCompile(`--- FAIL: (\S+)`)

// sources is where the statements are.
const sources = "../../internal/postgres"

// mutant returns a file's path and its content with the mutation in it.
func (m mutation) mutant(t *testing.T) (path, content string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(filepath.FromSlash(sources), m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.from); n != 1 {
		t.Fatalf("%s has %d places for this mutation, want 1: %q", m.file, n, m.from)
	}
	return path, strings.Replace(string(source), m.from, m.to, 1)
}

// Every mutation has exactly one place: who changes a statement of the fence
// changes its mutations too.
func TestMutationsHaveTheirPlaces(t *testing.T) {
	t.Parallel()
	for _, m := range mutations {
		t.Run(m.testName(), func(t *testing.T) { m.mutant(t) })
	}
}

// The model of internal/protocol has the same conditions, under the same names: what
// fences in one place and not in the other is forgotten in one of them.
func TestMutationsAreTheModels(t *testing.T) {
	t.Parallel()
	want := make(map[string]bool)
	for _, g := range protocol.Guards() {
		if g.OfStatement() {
			want[g.String()] = true
		}
	}
	got := make(map[string]bool)
	for _, m := range mutations {
		got[m.name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("guards of the model and mutations of the statements differ (-model +mutations):\n%s", diff)
	}
}

func (m mutation) testName() string { return strings.ReplaceAll(m.name, " ", "-") }

// Each condition of the fence is taken out, and the tests notice.
func TestMutations(t *testing.T) {
	if !*mutate {
		t.Skip("make mutations runs it")
	}
	databaseURL := testenv.DatabaseURL(t)
	if out, err := runTests(t, databaseURL, "", fenceTests+"|"+modelTest); err != nil {
		t.Fatalf("the tests fail as it is: %v\n%s", err, tail(out, 4000))
	}
	for _, m := range mutations {
		t.Run(m.testName(), func(t *testing.T) {
			t.Parallel()
			path, content := m.mutant(t)
			mutant, overlay := filepath.Join(t.TempDir(), m.file), filepath.Join(t.TempDir(), "overlay.json")
			raw, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string][]byte{mutant: []byte(content), overlay: raw} {
				if err := os.WriteFile(name, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tests := fenceTests
			if m.equivalent != "" {
				tests += "|" + modelTest
			}
			out, err := runTests(t, databaseURL, overlay, tests)
			found := failedTest.FindStringSubmatch(out)
			switch {
			case strings.Contains(out, "[build failed]") || strings.Contains(out, "SQLSTATE 42"):
				t.Errorf("it is no program: %s", tail(out, 2000))
			case m.equivalent != "" && err != nil:
				t.Errorf("it is not equivalent: %s", tail(out, 2000))
			case m.equivalent != "":
				t.Logf("| %s | equivalent: %s |", m.name, m.equivalent)
			case err == nil || found == nil:
				t.Errorf("no test notices: %v %s", err, tail(out, 500))
			default:
				t.Logf("| %s | %s |", m.name, found[1])
			}
		})
	}
}

// runTests runs tests of the store in a process of their own, on the same server.
func runTests(t *testing.T, databaseURL, overlay, tests string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := []string{"test", "-count=1", "-vet=off", "-failfast", "-timeout=2m", "-run", tests}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(args, ".", "-rapid.checks=60", "-rapid.shrinktime=1ms", "-rapid.nofailfile")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.FromSlash(sources)
	cmd.Env = append(os.Environ(), "FUSILLADE_TEST_DATABASE_URL="+databaseURL)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func tail(s string, n int) string { return s[max(len(s)-n, 0):] }
