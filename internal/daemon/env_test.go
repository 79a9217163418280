package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/daemon"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/streams"
)

var until = testenv.Eventually

// env is what daemons of one test share.
type env struct {
	*testcluster.Cluster
	beats jetstream.KeyValue
	log   *logLines
}

func newEnv(t *testing.T, threshold time.Duration) *env {
	t.Helper()
	e := &env{Cluster: testcluster.New(t), log: &logLines{Handler: testenv.Logger(t).Handler()}}
	e.EnsureStreams(streams.Config{StaleDaemonThreshold: threshold})
	e.beats = e.Bucket(streams.DaemonsBucket)
	return e
}

func (e *env) config(interval, threshold time.Duration) daemon.Config {
	return daemon.Config{
		Store: e.Store, Conn: e.Conn, Role: "consumer", Snapshot: map[string]string{"FUSILLADE_MAX_IN_FLIGHT": "7"},
		Interval: interval, Threshold: threshold, Log: slog.New(e.log),
	}
}

// record is a daemon's row.
type record struct {
	Role, Hostname, Version, Status string
	PID                             int
	Config                          map[string]string
	Stopped                         bool
	Completed, Failed               int64
	InFlight                        int
}

func (e *env) record(t *testing.T, id batch.DaemonID) (r record, beat time.Time) {
	t.Helper()
	err := e.DB.QueryRow(t.Context(), `
		SELECT role, hostname, version, status, pid, config, stopped_at IS NOT NULL,
		       requests_completed, requests_failed, requests_in_flight, last_heartbeat
		FROM daemons WHERE id = $1`, [16]byte(id)).
		Scan(&r.Role, &r.Hostname, &r.Version, &r.Status, &r.PID, &r.Config, &r.Stopped, &r.Completed, &r.Failed, &r.InFlight, &beat)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return r, beat
}

// beatsOn waits until both heartbeats of a daemon were renewed again.
func (e *env) beatsOn(t *testing.T, id batch.DaemonID) {
	t.Helper()
	_, before := e.record(t, id)
	revision := e.revision(t, id)
	until(t, "the heartbeat in Postgres is renewed", func() bool { _, beat := e.record(t, id); return beat.After(before) })
	until(t, "the heartbeat in NATS is renewed", func() bool { return e.revision(t, id) > revision })
}

// revision is that of the key in the bucket of heartbeats, 0 if there is none.
func (e *env) revision(t *testing.T, id batch.DaemonID) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	key, err := e.beats.Get(ctx, id.String())
	if err != nil {
		return 0
	}
	return key.Revision()
}

// logLines remembers the messages that it passes on.
type logLines struct {
	slog.Handler
	mu   sync.Mutex
	seen []string
}

// Handle implements slog.Handler.
func (l *logLines) Handle(ctx context.Context, r slog.Record) error {
	l.mu.Lock()
	l.seen = append(l.seen, r.Message)
	l.mu.Unlock()
	return l.Handler.Handle(ctx, r)
}

func (l *logLines) count(message string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.seen {
		if s == message {
			n++
		}
	}
	return n
}

// life is one call of the work that a daemon does.
type life struct {
	daemon        *daemon.Daemon
	taking, doing context.Context
	end           chan error // ends the work
}

// run runs a daemon whose work lasts until it is told to end or must stop. The
// channels give each of its lives as it begins, and what Run returns.
func (e *env) run(t *testing.T, cfg daemon.Config) (lives <-chan *life, ended <-chan error, stopTaking func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	taking, stopTaking := context.WithCancel(ctx)
	began, returned, over := make(chan *life, 10), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(over)
		returned <- daemon.Run(taking, ctx, cfg, func(taking, doing context.Context, d *daemon.Daemon) error {
			l := &life{daemon: d, taking: taking, doing: doing, end: make(chan error, 1)}
			began <- l
			select {
			case err := <-l.end:
				return err
			case <-doing.Done():
				return nil
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		<-over
	})
	return began, returned, stopTaking
}
