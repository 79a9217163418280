package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/daemon"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
	"fusillade/streams"
)

// fencing is a threshold that a test waits for, and that a daemon on a busy
// machine keeps by far as long as it is left alone.
const fencing = 4 * time.Second

func TestDaemonLife(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	hints := make(chan *nats.Msg, 1)
	hint, err := e.Conn.ChanSubscribe(streams.HintWork, hints)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hint.Unsubscribe() }()
	lives, ended, stopTaking := e.run(t, e.config(20*time.Millisecond, time.Minute))
	l := testenv.Receive(t, "work begins", lives)
	id := l.daemon.ID
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := record{
		Role: "consumer", Hostname: hostname, Version: daemon.Version, Status: "running", PID: os.Getpid(),
		Config: map[string]string{"FUSILLADE_MAX_IN_FLIGHT": "7"},
	}
	got, _ := e.record(t, id)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record as work begins (-want +got):\n%s", diff)
	}
	if e.revision(t, id) == 0 {
		t.Error("no heartbeat in NATS as work begins")
	}

	e.beatsOn(t, id)
	l.daemon.SetProgress(func() postgres.Progress { return postgres.Progress{Completed: 5, Failed: 2, InFlight: 3} })
	want.Completed, want.Failed, want.InFlight = 5, 2, 3
	until(t, "progress is recorded", func() bool { got, _ := e.record(t, id); return cmp.Equal(want, got) })

	// The heart beats while the work drains.
	stopTaking()
	<-l.taking.Done()
	want.Status = "stopping"
	until(t, "it is seen to be stopping", func() bool { got, _ := e.record(t, id); return cmp.Equal(want, got) })
	e.beatsOn(t, id)
	if l.doing.Err() != nil {
		t.Error("the end of taking ended doing")
	}

	l.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
	want.Status, want.Stopped, want.InFlight = "dead", true, 0
	got, _ = e.record(t, id)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record at the end (-want +got):\n%s", diff)
	}
	if _, err := e.beats.Get(t.Context(), id.String()); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("heartbeat in NATS at the end: %v, want none", err)
	}
	testenv.Receive(t, "the dispatchers are told of the end", hints)
}

// It says at once that it stops, and at its end all that it has done, however
// long the pause between heartbeats is.
func TestDaemonSaysThatItStops(t *testing.T) {
	t.Parallel()
	e := newEnv(t, 3*time.Hour)
	lives, ended, stopTaking := e.run(t, e.config(time.Hour, 3*time.Hour))
	l := testenv.Receive(t, "work begins", lives)
	stopTaking()
	until(t, "it is seen to be stopping", func() bool { got, _ := e.record(t, l.daemon.ID); return got.Status == "stopping" })
	l.daemon.SetProgress(func() postgres.Progress { return postgres.Progress{Completed: 5, Failed: 2, InFlight: 3} })
	l.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
	got, _ := e.record(t, l.daemon.ID)
	if got.Status != "dead" || got.Completed != 5 || got.Failed != 2 || got.InFlight != 0 {
		t.Errorf("record at the end is %+v", got)
	}
}

func TestDaemonReturnsTheErrorOfItsWork(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	lives, ended, _ := e.run(t, e.config(20*time.Millisecond, time.Minute))
	l := testenv.Receive(t, "work begins", lives)
	broken := errors.New("broken")
	l.end <- broken
	if err := testenv.Receive(t, "Run returns", ended); !errors.Is(err, broken) {
		t.Errorf("Run = %v, want %v", err, broken)
	}
	if got, _ := e.record(t, l.daemon.ID); got.Status != "dead" {
		t.Errorf("status %q after the work failed", got.Status)
	}
}

func TestDaemonDeclaredDead(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	lives, ended, _ := e.run(t, e.config(20*time.Millisecond, time.Minute))
	first := testenv.Receive(t, "work begins", lives)
	e.Exec(`UPDATE daemons SET status = 'dead', stopped_at = now() WHERE id = $1`, [16]byte(first.daemon.ID))
	testenv.Receive(t, "taking ends", first.taking.Done())
	testenv.Receive(t, "doing ends", first.doing.Done())
	if err := context.Cause(first.doing); !errors.Is(err, daemon.ErrFenced) || !errors.Is(err, batch.ErrDaemonDead) {
		t.Errorf("doing ended for %v, want ErrFenced", err)
	}
	second := testenv.Receive(t, "work begins again", lives)
	if second.daemon.ID == first.daemon.ID {
		t.Error("a dead daemon came back to life")
	}
	if got, _ := e.record(t, first.daemon.ID); got.Status != "dead" {
		t.Errorf("the first is %q", got.Status)
	}
	e.beatsOn(t, second.daemon.ID)
	second.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// failingHeartbeats makes Postgres refuse heartbeats until the returned
// function is called.
func (e *env) failingHeartbeats(t *testing.T) (repair func()) {
	t.Helper()
	e.Exec(`ALTER TABLE daemons RENAME TO away`)
	return func() {
		t.Helper()
		e.Exec(`ALTER TABLE away RENAME TO daemons`)
	}
}

func TestDaemonOutlivesAFailingPostgres(t *testing.T) {
	t.Parallel()
	e := newEnv(t, fencing)
	lives, ended, _ := e.run(t, e.config(100*time.Millisecond, fencing))
	first := testenv.Receive(t, "work begins", lives)
	repair := e.failingHeartbeats(t)
	testenv.Receive(t, "doing ends", first.doing.Done())
	if err := context.Cause(first.doing); !errors.Is(err, daemon.ErrFenced) {
		t.Errorf("doing ended for %v, want ErrFenced", err)
	}
	until(t, "it has tried to start again", func() bool { return e.log.count("the daemon could not start again") > 1 })
	repair()
	second := testenv.Receive(t, "work begins again", lives)
	if second.daemon.ID == first.daemon.ID {
		t.Error("a fenced daemon came back to life")
	}
	second.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// A daemon that cannot renew its heartbeat while it stops has its work cut off,
// and stops.
func TestDaemonIsFencedWhileItStops(t *testing.T) {
	t.Parallel()
	e := newEnv(t, fencing)
	lives, ended, stopTaking := e.run(t, e.config(100*time.Millisecond, fencing))
	l := testenv.Receive(t, "work begins", lives)
	stopTaking()
	until(t, "it is seen to be stopping", func() bool { got, _ := e.record(t, l.daemon.ID); return got.Status == "stopping" })
	e.failingHeartbeats(t)
	testenv.Receive(t, "doing ends", l.doing.Done())
	if err := context.Cause(l.doing); !errors.Is(err, daemon.ErrFenced) {
		t.Errorf("doing ended for %v, want ErrFenced", err)
	}
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// A daemon that must stop while it cannot begin again stops.
func TestDaemonStopsWhileFenced(t *testing.T) {
	t.Parallel()
	e := newEnv(t, fencing)
	lives, ended, stopTaking := e.run(t, e.config(100*time.Millisecond, fencing))
	testenv.Receive(t, "work begins", lives)
	e.failingHeartbeats(t)
	until(t, "it has tried to start again", func() bool { return e.log.count("the daemon could not start again") > 0 })
	stopTaking()
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestDaemonOutlivesARestartOfNATS(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	lives, ended, _ := e.run(t, e.config(20*time.Millisecond, time.Minute))
	l := testenv.Receive(t, "work begins", lives)
	before := e.Conn.Stats().Reconnects
	if err := e.Broker.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "the connection was lost and is back", func() bool { return e.Conn.Stats().Reconnects > before })
	e.beatsOn(t, l.daemon.ID)
	if l.doing.Err() != nil || l.taking.Err() != nil {
		t.Error("work ended though NATS was away for less than the threshold")
	}
	l.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestDaemonOutlivesAnOutageOfNATS(t *testing.T) {
	t.Parallel()
	const interval, threshold = 2 * time.Second, 6 * time.Second
	e := newEnv(t, threshold)
	p, through := proxy.NATS(t, e.Broker.URL())
	cfg := e.config(interval, threshold)
	var err error
	if cfg.Conn, err = nats.Connect(through, nats.Timeout(testenv.Patience), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.Conn.Close)
	lives, ended, _ := e.run(t, cfg)
	first := testenv.Receive(t, "work begins", lives)
	e.beatsOn(t, first.daemon.ID)
	// The last heartbeat is older than this.
	stale, cancel := context.WithTimeout(t.Context(), threshold)
	defer cancel()
	p.Cut()
	testenv.Receive(t, "doing ends", first.doing.Done())
	if stale.Err() != nil {
		t.Error("work went on after others may have begun it")
	}
	if first.taking.Err() == nil {
		t.Error("a fenced daemon takes work")
	}
	if err := context.Cause(first.doing); !errors.Is(err, daemon.ErrFenced) {
		t.Errorf("doing ended for %v, want ErrFenced", err)
	}
	until(t, "it has tried to start again", func() bool { return e.log.count("the daemon could not start again") > 0 })
	p.Restore()
	second := testenv.Receive(t, "work begins again", lives)
	if second.daemon.ID == first.daemon.ID {
		t.Error("a fenced daemon came back to life")
	}
	e.beatsOn(t, second.daemon.ID)
	second.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestDaemonNeedsItsBucket(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	if err := e.JS.DeleteKeyValue(t.Context(), streams.DaemonsBucket); err != nil {
		t.Fatal(err)
	}
	_, ended, _ := e.run(t, e.config(20*time.Millisecond, time.Minute))
	err := testenv.Receive(t, "Run returns", ended)
	if !errors.Is(err, jetstream.ErrBucketNotFound) || !strings.Contains(err.Error(), streams.DaemonsBucket) {
		t.Errorf("Run = %v, want ErrBucketNotFound and the bucket's name", err)
	}
}

// NATS was wiped while the daemon ran.
func TestDaemonEndsWhenItsBucketIsLost(t *testing.T) {
	t.Parallel()
	e := newEnv(t, fencing)
	lives, ended, _ := e.run(t, e.config(100*time.Millisecond, fencing))
	l := testenv.Receive(t, "work begins", lives)
	if err := e.JS.DeleteKeyValue(t.Context(), streams.DaemonsBucket); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "doing ends", l.doing.Done())
	if err := testenv.Receive(t, "Run returns", ended); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("Run = %v, want ErrBucketNotFound", err)
	}
}

// A daemon whose streams and buckets are made for it needs none to be there, and
// begins again when they vanish.
func TestDaemonPreparesItsBucket(t *testing.T) {
	t.Parallel()
	e := newEnv(t, fencing)
	if err := e.JS.DeleteKeyValue(t.Context(), streams.DaemonsBucket); err != nil {
		t.Fatal(err)
	}
	cfg := e.config(100*time.Millisecond, fencing)
	failing := true
	cfg.Prepare = func(context.Context) error {
		if failing {
			failing = false
			return errors.New("no quorum yet")
		}
		e.EnsureStreams(streams.Config{StaleDaemonThreshold: fencing})
		return nil
	}
	lives, ended, _ := e.run(t, cfg)
	first := testenv.Receive(t, "work begins", lives)
	first.end <- fmt.Errorf("binding a stream: %w", jetstream.ErrStreamNotFound)
	second := testenv.Receive(t, "work begins again where a stream was missing", lives)
	if err := e.JS.DeleteKeyValue(t.Context(), streams.DaemonsBucket); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "doing ends", second.doing.Done())
	second.end <- nil
	third := testenv.Receive(t, "work begins again where the bucket has vanished", lives)
	third.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestDaemonNeedsItsDatabase(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	e.failingHeartbeats(t)
	lives, ended, _ := e.run(t, e.config(20*time.Millisecond, time.Minute))
	err := testenv.Receive(t, "Run returns", ended)
	const undefinedTable = "42P01"
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != undefinedTable {
		t.Errorf("Run = %v, want what the database said", err)
	}
	if len(lives) > 0 {
		t.Error("work began without a record of the daemon")
	}
	if keys, err := e.beats.Keys(t.Context()); !errors.Is(err, jetstream.ErrNoKeysFound) {
		t.Errorf("heartbeats %v, %v of a daemon that has no record", keys, err)
	}
}

// A daemon that was fenced for want of a heartbeat has lapsed, and no other.
func TestLapsed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, fencing)
	lives, _, _ := e.run(t, e.config(100*time.Millisecond, fencing))
	l := testenv.Receive(t, "work begins", lives)
	e.beatsOn(t, l.daemon.ID)
	if l.daemon.Lapsed() && l.doing.Err() == nil {
		t.Error("a daemon that works has lapsed")
	}
	if err := e.Broker.Stop(); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "it is fenced", l.doing.Done())
	if !l.daemon.Lapsed() {
		t.Error("a daemon that was fenced has not lapsed")
	}
}
