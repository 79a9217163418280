//go:build chaos && unix

package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	natsDirVariable   = "CHAOS_NATS_DIR"
	natsPortVariable  = "CHAOS_NATS_PORT"
	natsHintsVariable = "CHAOS_NATS_HINTS"
)

// broker is a NATS server in a process of its own: this program again.
type broker struct {
	t     *testing.T
	dir   string
	port  int
	hints string // lost: nobody may publish them
	cmd   *exec.Cmd
	stdin io.Closer // its end is the child's
}

func newBroker(t *testing.T, loseHints bool) *broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port, hints: "kept"}
	if loseHints {
		b.hints = "lost"
	}
	_ = l.Close()
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *broker) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

func (b *broker) start() {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0])
	b.cmd.Env = append(os.Environ(), natsDirVariable+"="+b.dir, natsPortVariable+"="+strconv.Itoa(b.port), natsHintsVariable+"="+b.hints)
	b.cmd.Stderr = os.Stderr
	stdin, err := b.cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.stdin = stdin
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	poll(b.t, "the broker answers", func() bool {
		conn, err := nats.Connect("nats://"+b.address(), nats.Timeout(time.Second))
		if err != nil {
			return false
		}
		defer conn.Close()
		return true
	})
}

// kill ends the broker with no chance to clean up.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
	_ = b.stdin.Close()
}

// wipe removes what a killed broker kept.
func (b *broker) wipe() {
	b.t.Helper()
	if err := errors.Join(os.RemoveAll(b.dir), os.Mkdir(b.dir, 0o700)); err != nil {
		b.t.Fatal(err)
	}
}

// beBroker is all that the child does.
func beBroker(dir string) int {
	port, err := strconv.Atoi(os.Getenv(natsPortVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, natsPortVariable, err)
		return 2
	}
	options := &server.Options{
		ServerName: "chaos", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	}
	if os.Getenv(natsHintsVariable) == "lost" {
		options.Users = []*server.User{{Username: "anyone", Password: "anyone", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"fusillade.hints.>", "fusillade.hint.>"}},
		}}}
		options.NoAuthUser = "anyone"
	}
	srv, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the broker:", err)
		return 1
	}
	go srv.Start()
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
	return 0
}
