//go:build chaos && unix

package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/testenv/loopback"
	"fusillade/internal/testenv/pooler"
	"fusillade/internal/testenv/programs"
	"fusillade/migrations"
)

// node is one of two Postgres servers.
type node struct {
	dir, addr string
	logs      programs.Output
	cmd       *exec.Cmd
	over      chan struct{}
}

// replicated is a primary and a standby that streams from it, synchronously: what
// the primary has acknowledged, the standby has too.
type replicated struct {
	t                *testing.T
	bin              string
	primary, standby *node
}

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	r := &replicated{t: t, bin: serverPrograms(t)}
	dir, err := os.MkdirTemp("", "fchaos-replicated-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // the servers run as another user
		t.Fatal(err)
	}
	r.primary = &node{dir: filepath.Join(dir, "a"), addr: loopback.Addr(t)}
	r.standby = &node{dir: filepath.Join(dir, "b"), addr: loopback.Addr(t)}
	r.run("initdb", "-D", r.primary.dir, "-U", "fusillade", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	// Copied while it is stopped, which needs no program of the client package.
	if out, err := r.command("cp", "-a", r.primary.dir, r.standby.dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the primary: %v: %s", err, out)
	}
	if out, err := r.command("touch", filepath.Join(r.standby.dir, "standby.signal")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	host, port, _ := strings.Cut(r.primary.addr, ":")
	r.start(r.primary, "synchronous_standby_names=*")
	r.start(r.standby, fmt.Sprintf("primary_conninfo=host=%s port=%s user=fusillade application_name=standby", host, port))
	poll(t, "the standby streams", func() bool {
		return r.ask(r.primary, `SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'`)
	})
	r.exec(r.primary, "postgres", `CREATE DATABASE fusillade`)
	if err := migrations.Up(t.Context(), r.url(r.primary)); err != nil {
		t.Fatal(err)
	}
	return r
}

// serverPrograms is the directory of a server's programs.
func serverPrograms(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is good
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		found = append(found, strings.TrimSpace(string(out)))
	}
	for _, dir := range slices.Backward(found) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir
		}
	}
	t.Skip("it needs the programs of a Postgres server on this machine")
	return ""
}

// command is one of the user that the servers run as: not root.
func (r *replicated) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = os.TempDir()
	if os.Geteuid() != 0 {
		return cmd
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32) // numbers, on Unix
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
			break
		}
	}
	return cmd
}

func (r *replicated) run(program string, args ...string) {
	r.t.Helper()
	if out, err := r.command(filepath.Join(r.bin, program), args...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v: %s", program, err, out)
	}
}

func (r *replicated) start(n *node, settings ...string) {
	r.t.Helper()
	host, port, _ := strings.Cut(n.addr, ":")
	args := []string{"-D", n.dir}
	for _, s := range append(settings, "listen_addresses="+host, "port="+port, "unix_socket_directories=", "fsync=off", "max_connections=200", "shared_buffers=32MB") {
		args = append(args, "-c", s)
	}
	n.cmd, n.over = r.command(filepath.Join(r.bin, "postgres"), args...), make(chan struct{})
	n.cmd.Stdout, n.cmd.Stderr = &n.logs, &n.logs
	if err := n.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		defer close(n.over)
		_ = n.cmd.Wait()
	}()
	r.t.Cleanup(func() {
		r.kill(n)
		if r.t.Failed() {
			r.t.Logf("Postgres at %s said:\n%s", n.addr, n.logs.Tail())
		}
	})
	poll(r.t, "Postgres answers", func() bool { return r.ask(n, `SELECT true`) })
}

// signal sends a signal to the server and all its processes.
func (r *replicated) signal(n *node, s syscall.Signal) {
	pid := n.cmd.Process.Pid
	_ = syscall.Kill(pid, s)
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return // it has ended, and its children end with it
	}
	for _, child := range strings.Fields(string(raw)) {
		if id, err := strconv.Atoi(child); err == nil && id > 1 {
			_ = syscall.Kill(id, s)
		}
	}
}

func (r *replicated) kill(n *node) {
	r.signal(n, syscall.SIGKILL)
	<-n.over
}

func (r *replicated) on(n *node, database string, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, "postgres://fusillade@"+n.addr+"/"+database+"?sslmode=disable")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(ctx, conn)
}

func (r *replicated) exec(n *node, database, sql string) {
	r.t.Helper()
	err := r.on(n, database, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// ask returns false where it gets no answer.
func (r *replicated) ask(n *node, sql string) (yes bool) {
	err := r.on(n, "postgres", func(ctx context.Context, conn *pgx.Conn) error { return conn.QueryRow(ctx, sql).Scan(&yes) })
	return err == nil && yes
}

// promote makes the standby the primary.
func (r *replicated) promote() {
	r.t.Helper()
	r.exec(r.standby, "postgres", `SELECT pg_promote(false)`)
	poll(r.t, "the standby is the primary", func() bool { return r.ask(r.standby, `SELECT NOT pg_is_in_recovery()`) })
}

func (r *replicated) url(nodes ...*node) string {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.addr)
	}
	return "postgres://fusillade@" + strings.Join(addrs, ",") + "/fusillade?sslmode=disable"
}

// The primary fails over to its standby, in each of the ways that a primary goes.
func TestFailover(t *testing.T) {
	for name, fault := range map[string]string{
		"killed":    "primary of Postgres killed, its standby promoted",
		"frozen":    "primary of Postgres frozen, its standby promoted",
		"read-only": "primary of Postgres made read-only, its standby promoted",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplicated(t)
			c := newCluster(t, options{database: r.url(r.primary, r.standby)})
			c.pair()
			const n = 1000
			id := c.batch(n)
			c.awaitDone(id, n/4)
			switch name {
			case "killed":
				c.databaseCrashes++ // starts are not waited for, by the standby neither
				r.kill(r.primary)
			case "frozen":
				c.databaseCrashes++
				r.signal(r.primary, syscall.SIGSTOP)
			case "read-only":
				r.exec(r.primary, "postgres", `ALTER SYSTEM SET default_transaction_read_only = on`)
				r.exec(r.primary, "postgres", `SELECT pg_reload_conf()`)
				poll(t, "the standby has everything", func() bool {
					return r.ask(r.primary, `SELECT pg_current_wal_lsn() = replay_lsn FROM pg_stat_replication`)
				})
			}
			r.promote()
			at := time.Now()
			c.db.Reset() // a connection to the old primary reads on
			poll(t, "the new primary is used", func() bool {
				return c.count(`SELECT count(*) FROM daemons WHERE last_heartbeat > now() - interval '3 s'`) >= 4
			})
			took := c.awaitMoved(c.inHand(), at)
			faults.add(t, fault, c.verify(), took)
		})
	}
}

// The standby is promoted, and nobody stops the old primary, which still takes
// connections and can commit nothing any more: nobody leads there, and what was
// under way there is done again when it is stopped at last. The standby is what is
// looked at: on the old primary, who gives up waiting for a commit leaves it to be
// seen there, and lost.
func TestTwoPrimaries(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	c := newCluster(t, options{database: r.url(r.primary, r.standby), look: r.url(r.standby)})
	c.pair()
	const n = 1000
	id := c.batch(n)
	c.awaitDone(id, n/4)
	r.promote()
	poll(t, "no dispatcher works with the old primary", func() bool {
		for _, p := range c.pods {
			// The leader's lock is asked for first, or the heartbeat.
			if text := p.now().Log(); p.role == "dispatcher" && !strings.Contains(text, "holding the leader's lock") && !strings.Contains(text, "begins again as a new daemon") {
				return false
			}
		}
		return true
	})
	c.databaseCrashes++
	r.kill(r.primary)
	at := time.Now()
	poll(t, "the new primary is used", func() bool {
		return c.count(`SELECT count(*) FROM daemons WHERE last_heartbeat > now() - interval '3 s'`) >= 4
	})
	took := c.awaitMoved(c.inHand(), at)
	faults.add(t, "standby of Postgres promoted, the old primary stopped seconds later", c.verify(), took)
}

// The pooler between dies and comes back, under load.
func TestPooler(t *testing.T) {
	t.Parallel()
	direct := pg.database(t)
	between := pooler.Start(t, direct)
	c := newCluster(t, options{database: between.URL, direct: direct})
	c.pair()
	const n = 1000
	id := c.batch(n)
	c.awaitDone(id, n/4)
	between.Kill()
	wait(time.Second)
	between.Restart()
	at := time.Now()
	took := c.awaitMoved(c.inHand(), at)
	faults.add(t, "pgbouncer in transaction mode killed and restarted after 1 s", c.verify(), took)
}
