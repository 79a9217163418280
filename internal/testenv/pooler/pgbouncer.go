//go:build unix

package pooler

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/testenv"
	"fusillade/internal/testenv/loopback"
	"fusillade/internal/testenv/proxy"
)

// Pgbouncer is a pooler before a server. Its methods are safe for concurrent use.
type Pgbouncer struct {
	// URL leads through it to the database that it was started for.
	URL string

	test          testing.TB
	program, path string

	mu      sync.Mutex
	running *exec.Cmd
	logs    bytes.Buffer // read when running is nil
}

// Start runs pgbouncer before the server of a URL, until the test ends: in
// transaction mode, with a few sessions, unless lines of its configuration say
// otherwise. Where there is no pgbouncer the test is skipped.
func Start(t testing.TB, databaseURL string, lines ...string) *Pgbouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("it needs pgbouncer, which is not on this machine")
	}
	// pgbouncer may run as another user, who must not enter the directory of a socket.
	_, server := proxy.Postgres(t, databaseURL)
	to, err := pgx.ParseConfig(server)
	if err != nil {
		t.Fatal("the database URL is not valid")
	}
	addr := loopback.Addr(t)
	_, port, _ := net.SplitHostPort(addr) // it is well-formed
	dir := testenv.EnterableDir(t)
	login := "user=" + to.User
	if to.Password != "" {
		login += " password=" + to.Password
	}
	config := append([]string{
		"[databases]", fmt.Sprintf("* = host=%s port=%d %s", to.Host, to.Port, login), "[pgbouncer]",
		"listen_addr = 127.0.0.1", "listen_port = " + port, "unix_socket_dir =", "auth_type = any",
		"pool_mode = transaction", "default_pool_size = 5", "max_client_conn = 1000",
	}, lines...)
	p := &Pgbouncer{test: t, program: program, path: filepath.Join(dir, "pgbouncer.ini")}
	if err := os.WriteFile(p.path, []byte(strings.Join(config, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	through, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	through.Host = addr
	p.URL = through.String()
	t.Cleanup(p.Kill)
	p.Restart()
	return p
}

// Kill ends pgbouncer, and with it all connections through it.
func (p *Pgbouncer) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return
	}
	_ = p.running.Process.Kill()
	_ = p.running.Wait()
	p.running = nil
	if p.test.Failed() {
		p.test.Logf("pgbouncer said:\n%s", p.logs.String())
	}
}

// Restart starts it where it does not run, and waits until it answers.
func (p *Pgbouncer) Restart() {
	p.test.Helper()
	p.Kill()
	p.mu.Lock()
	cmd := exec.Command(p.program, p.path)
	cmd.Stdout, cmd.Stderr = &p.logs, &p.logs
	if os.Geteuid() == 0 { // which pgbouncer refuses to run as
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody(p.test)}
	}
	err := cmd.Start()
	if err == nil {
		p.running = cmd
	}
	p.mu.Unlock()
	if err != nil {
		p.test.Fatal(err)
	}
	testenv.Eventually(p.test, "pgbouncer answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, p.URL)
		if err != nil {
			return false
		}
		return conn.Close(ctx) == nil
	})
}

func nobody(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
