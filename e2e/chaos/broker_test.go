//go:build chaos && unix

package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fusillade/internal/testenv/loopback"
)

const (
	natsDirVariable   = "CHAOS_NATS_DIR"
	natsAddrVariable  = "CHAOS_NATS_ADDR"
	natsHintsVariable = "CHAOS_NATS_HINTS"
	natsPeerVariable  = "CHAOS_NATS_PEER" // name, listen address and routes, separated by commas; empty: it is alone
)

// broker is a NATS server in a process of its own: this program again.
type broker struct {
	t     *testing.T
	dir   string
	addr  string
	hints string // lost: nobody may publish them
	peer  string // what natsPeerVariable says
	cmd   *exec.Cmd
	stdin io.Closer // its end is the child's
}

func newBroker(t *testing.T, loseHints bool) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir(), addr: loopback.Addr(t), hints: "kept"}
	if loseHints {
		b.hints = "lost"
	}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	b.launch()
	b.answers()
}

// launch starts the broker and does not wait for it.
func (b *broker) launch() {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0])
	b.cmd.Env = append(os.Environ(), natsDirVariable+"="+b.dir, natsAddrVariable+"="+b.addr, natsHintsVariable+"="+b.hints, natsPeerVariable+"="+b.peer)
	b.cmd.Stderr = os.Stderr
	stdin, err := b.cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.stdin = stdin
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) answers() {
	b.t.Helper()
	poll(b.t, "the broker answers", func() bool {
		conn, err := nats.Connect("nats://"+b.addr, nats.Timeout(time.Second))
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

// stop ends the broker as SIGTERM does.
func (b *broker) stop() {
	_ = b.stdin.Close()
	_ = b.cmd.Wait()
}

func (b *broker) signal(s syscall.Signal) { _ = b.cmd.Process.Signal(s) }

// copyTo copies what a broker that has ended keeps.
func (b *broker) copyTo(dir string) {
	b.t.Helper()
	if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
		b.t.Fatal(err)
	}
}

// restore puts a copy in the place of what a broker that has ended keeps.
func (b *broker) restore(dir string) {
	b.t.Helper()
	b.wipe()
	if err := os.CopyFS(b.dir, os.DirFS(dir)); err != nil {
		b.t.Fatal(err)
	}
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
	host, portText, err := net.SplitHostPort(os.Getenv(natsAddrVariable))
	port, portErr := strconv.Atoi(portText)
	if err := errors.Join(err, portErr); err != nil {
		fmt.Fprintln(os.Stderr, natsAddrVariable, err)
		return 2
	}
	options := &server.Options{
		ServerName: "chaos", Host: host, Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	}
	if peer := os.Getenv(natsPeerVariable); peer != "" {
		if err := beOneOf(options, strings.Split(peer, ",")); err != nil {
			fmt.Fprintln(os.Stderr, natsPeerVariable, err)
			return 2
		}
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
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent says so, or is gone
	srv.Shutdown()
	srv.WaitForShutdown()
	return 0
}

// beOneOf makes a server one of a cluster. Others reach it by their routes alone,
// which a test can cut, not where it says that it is.
func beOneOf(options *server.Options, peer []string) error {
	host, portText, err := net.SplitHostPort(peer[1])
	port, portErr := strconv.Atoi(portText)
	if err := errors.Join(err, portErr); err != nil {
		return err
	}
	options.ServerName = peer[0]
	options.Cluster = server.ClusterOpts{Name: "chaos", Host: host, Port: port, Advertise: "127.0.0.1:1", NoAdvertise: true}
	for _, route := range peer[2:] {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: route})
	}
	return nil
}
