//go:build unix

package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// startLimit bounds a start, crash recovery included. A server that cannot
	// start ends, and is reported, long before.
	startLimit = 10 * time.Minute
	readyPoll  = 20 * time.Millisecond
	// killWait is what a server gets for each step after a clean shutdown took
	// too long.
	killWait = 10 * time.Second
)

// postmaster is a Postgres that runs as our child process.
type postmaster struct {
	cmd       *exec.Cmd
	log       *serverLog
	dataDir   string
	socketDir string
	as        account
	unlock    func() error

	// done is closed when the process has ended; exit is set before.
	done chan struct{}
	exit error

	stopping sync.Mutex
}

// startLocal starts a server on cfg.DataDir, which it creates if need be.
func startLocal(ctx context.Context, cfg PostgresConfig) (_ *Postgres, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	unlock, err := LockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unlock())
		}
	}()
	dataDir, err := filepath.EvalSymlinks(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	cluster := filepath.Join(dataDir, clusterName)
	as, err := serverAccount(cluster)
	if err != nil {
		return nil, err
	}
	if err := letIn(ctx, dataDir, as); err != nil {
		return nil, err
	}
	if err := removeUnfinished(dataDir); err != nil {
		return nil, err
	}
	major, err := clusterMajor(cluster)
	if err != nil {
		return nil, err
	}
	bin, err := chooseBinaries(ctx, cfg, cmp.Or(major, cfg.Major), cluster)
	if err != nil {
		return nil, err
	}
	if err := as.checkReach(ctx, bin.dir); err != nil {
		return nil, err
	}
	if major == 0 {
		err = initCluster(ctx, bin, as, cluster, cfg.Settings["fsync"] != "off")
	} else {
		err = stopOrphan(ctx, cluster, as, cfg.Log)
	}
	if err != nil {
		return nil, err
	}
	s, err := runServer(ctx, bin, as, dataDir, cfg)
	if err != nil {
		return nil, err
	}
	s.unlock = unlock
	return &Postgres{
		url:    socketURL(s.socketDir, database),
		source: fmt.Sprintf("Postgres %s from %s, data in %s", bin.version, bin.dir, dataDir),
		server: s,
	}, nil
}

// letIn lets the account reach dataDir: it opens that and the directory above
// for the account's group, if they are ours as LockDir makes them, and leaves
// any other directory alone.
func letIn(ctx context.Context, dataDir string, as account) error {
	err := as.checkReach(ctx, dataDir)
	if err == nil {
		return nil
	}
	for _, dir := range []string{dataDir, filepath.Dir(dataDir)} {
		if _, statErr := os.Stat(filepath.Join(dir, lockName)); statErr != nil {
			return err
		}
		if err := as.openUp(dir); err != nil {
			return err
		}
		if err = as.checkReach(ctx, dataDir); err == nil {
			return nil
		}
	}
	return err
}

// chooseBinaries returns the newest server of the given major version, or of any
// for 0: found on the machine, or else downloaded.
func chooseBinaries(ctx context.Context, cfg PostgresConfig, major int, cluster string) (binaries, error) {
	var otherFound []string
	for _, b := range findBinaries(ctx, cfg.BinDirs) {
		if major == 0 || b.major == major {
			return b, nil
		}
		otherFound = append(otherFound, b.version+" in "+b.dir)
	}
	if r, known := releaseOf(major); cfg.CacheDir != "" && known {
		b, err := downloadBinaries(ctx, cfg, r)
		if err != nil {
			return b, fmt.Errorf("%w on this machine, and none could be fetched: install Postgres %d or newer (the server, not only the client), or give the URL of a running one: %w", ErrNoPostgres, minMajor, err)
		}
		return b, nil
	}
	if major == 0 {
		return binaries{}, fmt.Errorf("%w on this machine: install Postgres %d or newer (the server, not only the client), or give the URL of a running one", ErrNoPostgres, minMajor)
	}
	have := "there is none here"
	if len(otherFound) > 0 {
		have = "here is only " + strings.Join(otherFound, ", ")
	}
	return binaries{}, fmt.Errorf("%w for %s: it was made by Postgres %d, and %s: install Postgres %d, or choose another data directory", ErrNoPostgres, cluster, major, have, major)
}

// runServer starts the server and returns when it answers and has our database.
func runServer(ctx context.Context, bin binaries, as account, dataDir string, cfg PostgresConfig) (*postmaster, error) {
	socketDir, err := makeSocketDir(ctx, dataDir, as)
	if err != nil {
		return nil, err
	}
	s := &postmaster{
		log:       newServerLog(cfg.Log.With(slog.String("component", "postgres"))),
		dataDir:   dataDir,
		socketDir: socketDir,
		as:        as,
		unlock:    func() error { return nil },
		done:      make(chan struct{}),
	}
	s.log.quiet.Store(true)
	s.cmd = serverCommand(bin, as, dataDir, socketDir, cfg.Settings)
	s.cmd.Stdout = s.log
	s.cmd.Stderr = s.log
	started := make(chan error, 1)
	go s.own(started)
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("running %s: %w", s.cmd.Path, err), removeSocketDir(socketDir, as))
	}
	if err := s.ready(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		return nil, errors.Join(err, s.stop(stopCtx))
	}
	s.log.quiet.Store(false)
	return s, nil
}

func serverCommand(bin binaries, as account, dataDir, socketDir string, extra map[string]string) *exec.Cmd {
	cluster := filepath.Join(dataDir, clusterName)
	cmd := exec.Command(bin.path("postgres"), serverArgs(cluster, socketDir, extra)...)
	cmd.Env = childEnv
	cmd.Dir = cluster
	// When we are killed: a clean shutdown, so that the next start is quick.
	cmd.SysProcAttr = as.attributes(syscall.SIGINT)
	cmd.WaitDelay = killWait
	return cmd
}

// own starts the process and stays until it has ended. The kernel ties the
// process to the thread that started it, so that thread must not end before.
func (s *postmaster) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	err := s.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = s.cmd.Wait()
	s.exit = errors.New(s.cmd.ProcessState.String())
	if !s.log.quiet.Load() {
		s.log.log.Error("Postgres ended by itself", slog.Any("err", err))
	}
}

// ready waits until the server takes connections, then makes sure that our
// database is there.
func (s *postmaster) ready(ctx context.Context) error {
	for {
		err := s.createDatabase(ctx)
		if err == nil {
			return nil
		}
		pgErr, answered := errors.AsType[*pgconn.PgError](err)
		if answered && pgErr.Code != codeStartingUp {
			return s.log.explain(s.dataDir, err)
		}
		poll := time.NewTimer(readyPoll)
		select {
		case <-poll.C:
		case <-s.done:
			poll.Stop()
			return s.log.explain(s.dataDir, fmt.Errorf("the server ended: %w", s.exit))
		case <-ctx.Done():
			poll.Stop()
			return s.log.explain(s.dataDir, fmt.Errorf("the server does not answer yet: %w", context.Cause(ctx)))
		}
	}
}

// codeStartingUp is SQLSTATE cannot_connect_now.
const codeStartingUp = "57P03"

func (s *postmaster) createDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, socketURL(s.socketDir, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	const q = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if err := conn.QueryRow(ctx, q, database).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{database}.Sanitize())
	return err
}

// stop ends the server, ever less gently, and releases what it held. Only the
// first call does; later ones find it ended.
func (s *postmaster) stop(ctx context.Context) error {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	s.log.quiet.Store(true)

	err := s.signal(syscall.SIGINT) // fast shutdown: checkpoint, then exit
	select {
	case <-s.done:
		return errors.Join(err, removeSocketDir(s.socketDir, s.as), s.unlock())
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		err = errors.Join(err, s.signal(sig))
		timer := time.NewTimer(killWait)
		select {
		case <-s.done:
			timer.Stop()
			return errors.Join(err, removeSocketDir(s.socketDir, s.as), s.unlock())
		case <-timer.C:
		}
	}
	return errors.Join(err, fmt.Errorf("process %d does not end", s.cmd.Process.Pid))
}

func (s *postmaster) signal(sig syscall.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
