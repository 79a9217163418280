//go:build unix

package embedded

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func startPostgres(t *testing.T, dir string) *Postgres {
	t.Helper()
	p, err := StartPostgres(testContext(t), PostgresConfig{DataDir: dir, CacheDir: testCacheDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopPostgres(t, p) })
	return p
}

func stopPostgres(t *testing.T, p *Postgres) {
	t.Helper()
	if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func execSQL(t *testing.T, url, sql string) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var got string
	if err := conn.QueryRow(ctx, sql).Scan(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPostgresKeepsItsData(t *testing.T) {
	t.Parallel()
	// As in use: the data directory is below one that is locked and private.
	app := shortDir(t)
	unlock, err := LockDir(app)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	dir := filepath.Join(app, "postgres")

	if url, ok := AttachPostgres(dir); ok {
		t.Errorf("before the first start there is a server at %s", url)
	}
	p := startPostgres(t, dir)
	execSQL(t, p.URL(), `CREATE TABLE t AS SELECT 'kept' AS v`)
	if url, ok := AttachPostgres(dir); !ok || query(t, url, `SELECT v FROM t`) != "kept" {
		t.Errorf("while it runs: %q, %v", url, ok)
	}
	for setting, want := range map[string]string{
		"listen_addresses": "", "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"server_encoding": "UTF8", "lc_collate": "C",
	} {
		if got := query(t, p.URL(), `SELECT coalesce(current_setting('`+setting+`', true), (SELECT datcollate FROM pg_database WHERE datname = current_database()))`); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if !strings.Contains(p.Source(), dir) {
		t.Errorf("Source() = %q does not name %s", p.Source(), dir)
	}

	_, err = StartPostgres(testContext(t), PostgresConfig{DataDir: dir})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("second start = %v, want ErrInUse", err)
	}

	stopPostgres(t, p)
	stopPostgres(t, p)
	select {
	case <-p.Done():
	default:
		t.Error("Done is open after Stop")
	}

	// An initdb that was cut off, and the id of a server that died when the
	// machine did, now some other process's.
	unfinished := filepath.Join(dir, strings.Replace(unfinishedPattern, "*", "1", 1))
	if err := os.MkdirAll(filepath.Join(unfinished, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	cluster := filepath.Join(dir, clusterName)
	stale := strconv.Itoa(os.Getppid()) + "\n" + cluster + "\n1700000000\n5432\n/tmp\n\n"
	if err := os.WriteFile(filepath.Join(cluster, "postmaster.pid"), []byte(stale), 0o644); err != nil {
		t.Fatal(err)
	}
	p = startPostgres(t, dir)
	if got := query(t, p.URL(), `SELECT v FROM t`); got != "kept" {
		t.Errorf("after a restart t holds %q", got)
	}
	if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unfinished cluster is still there: %v", err)
	}

	if err := RemovePostgres(testContext(t), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("RemovePostgres under a living owner = %v, want ErrInUse", err)
	}
	stopPostgres(t, p)
	if err := RemovePostgres(testContext(t), dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed data directory is still there: %v", err)
	}
}

func TestPostgresSurvivesTheKillOfItsOwner(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	owner := exec.Command(os.Args[0], helperArg, dir)
	owner.Stderr = os.Stderr
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, strings.TrimSpace(url), `CREATE TABLE t AS SELECT 'kept' AS v`)

	_, err = LockDir(dir)
	if want := "process " + strconv.Itoa(owner.Process.Pid); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("LockDir = %v, want ErrInUse by %s", err, want)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // says that it was killed

	p := startPostgres(t, dir)
	if got := query(t, p.URL(), `SELECT v FROM t`); got != "kept" {
		t.Errorf("after the kill t holds %q", got)
	}
}

// An orphan that nobody told of its owner's death, as on platforms that can't.
func TestPostgresStopsAnOrphan(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	// Too long for a socket, so that a temporary directory must serve.
	dir := filepath.Join(shortDir(t), strings.Repeat("long", 25))
	unlock, err := LockDir(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	stopPostgres(t, startPostgres(t, dir))

	as, err := serverAccount(filepath.Join(dir, clusterName))
	if err != nil {
		t.Fatal(err)
	}
	bin, err := chooseBinaries(ctx, PostgresConfig{CacheDir: testCacheDir()}, 0, dir)
	if err != nil {
		t.Fatal(err)
	}
	socketDir, err := makeSocketDir(ctx, dir, as)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(socketDir, dir) {
		t.Errorf("socket directory %s is too long for a socket", socketDir)
	}
	orphan := &postmaster{
		cmd: serverCommand(bin, as, dir, socketDir, nil), log: newServerLog(nil),
		dataDir: dir, socketDir: socketDir, as: as, done: make(chan struct{}),
	}
	orphan.log.quiet.Store(true)
	started := make(chan error, 1)
	go orphan.own(started)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if err := orphan.ready(ctx); err != nil {
		t.Fatal(err)
	}
	execSQL(t, socketURL(socketDir, database), `CREATE TABLE t AS SELECT 'kept' AS v`)

	p := startPostgres(t, dir)
	<-orphan.done
	if got := query(t, p.URL(), `SELECT v FROM t`); got != "kept" {
		t.Errorf("after the orphan t holds %q", got)
	}
	if _, err := os.Stat(socketDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the orphan's socket directory is still there: %v", err)
	}
}

func TestPostgresReportsItsDeath(t *testing.T) {
	t.Parallel()
	p, err := StartPostgres(testContext(t), PostgresConfig{
		DataDir: shortDir(t), CacheDir: testCacheDir(), Settings: map[string]string{"fsync": "off"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-testContext(t).Done():
		t.Fatal("the death of the server is not reported")
	}
	stopPostgres(t, p)
}

func TestPostgresByURL(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for name, tt := range map[string]struct{ url, want string }{
		"nobody listens": {"postgres://u:" + secret + "@127.0.0.1:1/db", "127.0.0.1:1"},
		"not a URL":      {"postgres://u:" + secret + "/x@[::1/db", ErrInvalidURL.Error()},
		"bad port":       {"postgres://u:" + secret + "@h:99999999/db", ErrInvalidURL.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := StartPostgres(testContext(t), PostgresConfig{URL: tt.url})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("StartPostgres = %v, want an error with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("error %q holds the password", err)
			}
		})
	}
}

func TestPostgresNeedsReachableDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	dir := filepath.Join(t.TempDir(), "postgres") // below a directory of mode 0700
	_, err := StartPostgres(testContext(t), PostgresConfig{DataDir: dir, CacheDir: testCacheDir()})
	if want := "chmod o+x " + filepath.Dir(filepath.Dir(dir)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("StartPostgres = %v, want the remedy %q", err, want)
	}
}

// What the user's shell says about another server has no part in ours.
func TestPostgresIgnoresTheClientEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"PGSERVICE": "no-such-service", "PGSERVICEFILE": "/no/such/file", "PGTARGETSESSIONATTRS": "standby", "PGCONNECT_TIMEOUT": "soon",
		"PGOPTIONS": "-c search_path=nowhere -c default_transaction_read_only=on", "PGHOST": "no-such-host", "PGPORT": "x", "PGSSLMODE": "verify-full",
		"PGAPPNAME": "theirs", "PGTZ": "nowhere", "PGDATA": "/no/such/directory",
	} {
		t.Setenv(name, value)
	}
	p := startPostgres(t, shortDir(t))
	execSQL(t, p.URL(), `CREATE TABLE t AS SELECT 1 AS v`)
	if got := query(t, p.URL(), `SHOW search_path`); got != `"$user", public` {
		t.Errorf("search_path is %s", got)
	}
}
