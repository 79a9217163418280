//go:build upgrade && unix

package upgrade

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// previous is the commit of the release before.
//
//go:embed previous.txt
var previous string

func TestMain(m *testing.M) { testenv.Main(m) }

// buildPrevious builds the programs of the release before. Where the repository
// does not have that commit, as a shallow clone, the test is skipped, and says so.
func buildPrevious(t *testing.T) programs.Dir {
	t.Helper()
	commit := strings.TrimSpace(previous)
	if err := exec.CommandContext(t.Context(), "git", "cat-file", "-e", commit+"^{commit}").Run(); err != nil {
		t.Skipf("NOT TESTED: this repository does not have the commit %s of the release before; git fetch --unshallow brings it", commit)
	}
	source := t.TempDir()
	top := filepath.Join("..", "..")
	archive := filepath.Join(source, "source.tar")
	for _, command := range [][]string{
		{"git", "-C", top, "archive", "--output", archive, commit},
		{"tar", "-x", "-f", archive, "-C", source},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	dir, err := filepath.Abs(filepath.Join(top, "build", "previous"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./cmd/...")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the release before: %v: %s", err, out)
	}
	return programs.Dir(dir)
}

// side is the programs of one release, and how they are told to work.
type side struct {
	t   *testing.T
	dir programs.Dir
	env []string
}

func (s side) start(name string, extra ...string) *programs.Process {
	s.t.Helper()
	return s.dir.Start(s.t, append(slices.Clone(s.env), extra...), name)
}

func (s side) run(args ...string) string {
	s.t.Helper()
	out, err := s.dir.Run(s.t.Context(), s.env, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// begin begins a batch of n requests through an API of this side.
func (s side) begin(server, name string, n int) batch.ID {
	s.t.Helper()
	var lines bytes.Buffer
	for i := range n {
		line, err := json.Marshal(map[string]any{
			"custom_id": fmt.Sprintf("%s-%d", name, i), "method": "POST", "url": "/v1/chat/completions",
			"body": map[string]any{"model": []string{"gpt-4", "llama"}[i%2], "messages": []map[string]string{{"role": "user", "content": "question"}}},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	path := filepath.Join(s.t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(path, lines.Bytes(), 0o600); err != nil {
		s.t.Fatal(err)
	}
	with := s
	with.env = append(slices.Clone(s.env), "FUSILLADE_SERVER="+server)
	id, err := batch.ParseID(with.run("batches", "create", path))
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// A rolling upgrade under load: the schema first, then the programs one by one.
// Every request is called once and completes, and no program of the release before
// ends but by being told to.
func TestRollingUpgrade(t *testing.T) {
	old := side{t: t, dir: buildPrevious(t)}
	built, err := programs.Build(filepath.Join("..", ".."), "upgrade", programs.Commands)
	if err != nil {
		t.Fatal(err)
	}
	databaseURL, broker := testenv.EmptyDatabaseURL(t), testenv.NATS(t)
	answers, err := mock.New(mock.Config{Settings: mock.Settings{Latency: "uniform:20ms-60ms"}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := httptest.NewServer(answers)
	t.Cleanup(endpoint.Close)
	db, err := pgxpool.New(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	old.env = programs.Environment("FUSILLADE_DATABASE_URL="+databaseURL, "FUSILLADE_NATS_URL="+broker.URL(), "FUSILLADE_UPSTREAM_URL="+endpoint.URL)
	// The release before had one stream, which is what is set while both work.
	now := side{t: t, dir: built, env: append(slices.Clone(old.env), "FUSILLADE_STREAM_SHARDS=1")}
	const listen = "FUSILLADE_LISTEN_ADDR=127.0.0.1:0"
	done := func(id batch.ID) (n int64) {
		if err := db.QueryRow(t.Context(), `SELECT completed + failed + canceled + expired FROM batches WHERE id = $1`, [16]byte(id)).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	old.run("migrate", "up")
	before := []*programs.Process{old.start("dispatcher"), old.start("consumer"), old.start("consumer")}
	oldAPI := old.start("api", listen)
	before = append(before, oldAPI)
	const n = 2000
	first := old.begin(oldAPI.URL(t), "first", n)
	testenv.Eventually(t, "the release before works", func() bool { return done(first) > n/20 })
	now.run("migrate", "up")
	at := done(first)
	second := old.begin(oldAPI.URL(t), "second", n)
	testenv.Eventually(t, "the release before works on the new schema", func() bool { return done(first)+done(second) > at+n/4 })

	after := []*programs.Process{now.start("dispatcher"), now.start("consumer")}
	newAPI := now.start("api", listen)
	after = append(after, newAPI)
	third := now.begin(newAPI.URL(t), "third", n)
	testenv.Eventually(t, "both work together", func() bool { return done(third) > 0 })
	for _, p := range before {
		p.Signal(syscall.SIGTERM)
		p.WantExit(t, 0)
		p.Sound(t)
	}
	for _, id := range []batch.ID{first, second, third} {
		testenv.Steadily(t, "the batch has ended", func() (int64, bool) {
			d := done(id)
			return d, d == n
		})
		var completed int64
		if err := db.QueryRow(t.Context(), `SELECT completed FROM batches WHERE id = $1`, [16]byte(id)).Scan(&completed); err != nil || completed != n {
			t.Errorf("%d of %d completed, %v", completed, n, err)
		}
		if err := checker.Check(context.WithoutCancel(t.Context()), db, id); err != nil {
			t.Error(err)
		}
	}
	for id, calls := range answers.CustomIDs() {
		if calls > 1 {
			t.Errorf("%s was called %d times", id, calls)
		}
	}
	for _, p := range after {
		p.Signal(syscall.SIGTERM)
		p.WantExit(t, 0)
		p.Sound(t)
	}
}
