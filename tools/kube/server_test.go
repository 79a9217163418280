// Package kube applies what deploy/ has for Kubernetes to an API server: the chart by
// Helm, the bases as `kubectl apply -k` does it. Nothing runs there, for there is
// neither a controller nor a node; what is tested is what the server itself refuses:
// fields and values, changes of what cannot be changed, pods that the restricted Pod
// Security Standard does not admit, rights that the user lacks.
package kube

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// started bounds how long a server takes to be ready, on a busy machine.
const started = 3 * time.Minute

// token is the administrator's, of a server that only this machine reaches.
const token = "administrator"

// server is the one of all tests.
var server *cluster

// cluster is an API server with an etcd.
type cluster struct {
	admin   *rest.Config
	clients *kubernetes.Clientset
	objects *dynamic.DynamicClient
}

func TestMain(m *testing.M) {
	// This program is the API server too: in a process of its own, whose settings for
	// the whole process are not those of Helm.
	if len(os.Args) > 1 && os.Args[1] == "apiserver" {
		os.Exit(serve(os.Args[2:]))
	}
	os.Exit(run(m))
}

// serve is the API server, until its standard input ends: with the tests, however
// they end.
func serve(args []string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	command := app.NewAPIServerCommand()
	command.SetArgs(args)
	if err := command.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fusillade-kube-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard) // gRPC writes a line for each connection that etcd ends
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop, err := start(ctx, dir)
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting an API server:", err)
		return 1
	}
	return m.Run()
}

// start starts etcd and the API server, and what they need to admit Fusillade's
// objects. stop is never nil.
func start(ctx context.Context, dir string) (stop func(), err error) {
	store, err := startEtcd(dir)
	if err != nil {
		return func() {}, err
	}
	address, err := freeAddress()
	if err != nil {
		return store.Close, err
	}
	ended, end, err := startServer(ctx, dir, store.Clients[0].Addr().String(), address)
	if err != nil {
		return store.Close, err
	}
	stop = func() { end(); store.Close() }
	server = &cluster{admin: &rest.Config{
		Host: "https://" + address, BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "apiserver.crt")},
	}}
	if err := server.await(ctx, ended); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "apiserver.log"))
		return stop, fmt.Errorf("%w\n%s", err, log[max(0, len(log)-4000):])
	}
	if err := server.prepare(ctx); err != nil {
		return stop, err
	}
	go server.finishJobs(ctx)
	return stop, nil
}

func startEtcd(dir string) (*embed.Etcd, error) {
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.LogOutputs = []string{filepath.Join(dir, "etcd.log")}
	cfg.UnsafeNoFsync = true
	clients, err := freeAddress()
	if err != nil {
		return nil, err
	}
	peers, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: clients}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: peers}}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	store, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	select {
	case <-store.Server.ReadyNotify():
		return store, nil
	case <-time.After(started):
		store.Close()
		return nil, fmt.Errorf("etcd was not ready within %s", started)
	}
}

// startServer starts this program as the API server, with certificates that it makes
// itself. ended tells of its end.
func startServer(ctx context.Context, dir, store, address string) (ended <-chan error, end func(), err error) {
	key := filepath.Join(dir, "accounts.key")
	if err := writeKey(key); err != nil {
		return nil, nil, err
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",administrator,0,system:masters\n"), 0o600); err != nil {
		return nil, nil, err
	}
	log, err := os.Create(filepath.Join(dir, "apiserver.log"))
	if err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	command := exec.CommandContext(ctx, os.Args[0], "apiserver",
		"--etcd-servers=http://"+store, "--cert-dir="+dir, "--token-auth-file="+tokens,
		"--bind-address="+host, "--advertise-address="+host, "--secure-port="+port,
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/16", "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key)
	command.Stdout, command.Stderr = log, log
	input, err := command.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := command.Start(); err != nil {
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() {
		done <- command.Wait()
		close(done)
	}()
	return done, func() { _ = input.Close(); <-done; _ = log.Close() }, nil
}

// await waits until the server is ready.
func (c *cluster) await(ctx context.Context, ended <-chan error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, started)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = c.connect(); err == nil {
			if _, err = c.clients.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
				return nil
			}
		}
		select {
		case died := <-ended:
			return fmt.Errorf("it has ended: %w", died)
		case <-ctx.Done():
			return fmt.Errorf("it was not ready within %s: %w", started, err)
		case <-tick.C:
		}
	}
}

// connect makes the clients, once the server has written its certificate.
func (c *cluster) connect() (err error) {
	if c.clients != nil {
		return nil
	}
	if c.objects, err = dynamic.NewForConfig(c.admin); err != nil {
		return err
	}
	c.clients, err = kubernetes.NewForConfig(c.admin)
	return err
}

// freeAddress is one at which nobody listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// warnings are what the server has warned of, such as fields of a version that goes.
type warnings struct{ t *testing.T }

func (w warnings) HandleWarningHeader(_ int, _ string, text string) {
	if text != "" {
		w.t.Errorf("the server warns: %s", text)
	}
}

// lines is an error on one line.
func lines(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

var everything = meta.ListOptions{}
