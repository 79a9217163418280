package control_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	model    batch.Model = "org/model-1:free"
	patience             = time.Minute
)

// world is a batch of ten requests, of which five are claimed and have their
// messages in the stream, as has a request of another batch.
type world struct {
	t          *testing.T
	store      *postgres.Store
	stream     jetstream.Stream
	conn       *nats.Conn
	controller *control.Controller
	metrics    *prometheus.Registry
	file       batch.FileID
	id         batch.ID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	url := testenv.DatabaseURL(t)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	checker.AtEnd(t, db)
	w := &world{t: t, store: store, conn: testenv.Connect(t, testenv.NATS(t)), metrics: prometheus.NewRegistry()}
	js, err := jetstream.New(w.conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Config{InMemory: true, StaleDaemonThreshold: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if w.stream, err = js.Stream(t.Context(), streams.Stream); err != nil {
		t.Fatal(err)
	}
	if w.controller, err = control.New(control.Config{Store: store, Conn: w.conn, Metrics: w.metrics, Log: testenv.Logger(t)}); err != nil {
		t.Fatal(err)
	}
	w.file, w.id = w.begin(10)
	claimed, err := store.Claim(t.Context(), model, []postgres.Quota{{Batch: w.id, N: 5}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range claimed {
		w.publish(js, r.ID)
	}
	w.publish(js, batch.RequestID{Batch: batch.ID{1}, Line: 1})
	return w
}

func (w *world) publish(js jetstream.JetStream, id batch.RequestID) {
	w.t.Helper()
	if _, err := js.Publish(w.t.Context(), streams.Shard(0).RequestSubject(model, id), nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) begin(n int) (batch.FileID, batch.ID) {
	w.t.Helper()
	ctx := w.t.Context()
	file, err := w.store.CreateFile(ctx, "requests.jsonl", "tester")
	if err != nil {
		w.t.Fatal(err)
	}
	lines := make([]batch.Template, n)
	for i := range lines {
		lines[i] = batch.Template{
			Line: int32(i + 1), CustomID: fmt.Sprint("r", i), Model: model, Method: "POST", Path: "/v1/x", Body: []byte(`{}`),
		}
	}
	if err := w.store.CopyTemplates(ctx, file, lines); err != nil {
		w.t.Fatal(err)
	}
	summary := batch.FileSummary{Requests: n, Models: []batch.ModelDemand{{Model: model, Requests: n}}}
	if err := w.store.FinishFile(ctx, file, summary); err != nil {
		w.t.Fatal(err)
	}
	id, _, err := w.store.CreateBatch(ctx, postgres.NewBatch{File: file, CreatedBy: "tester", CompletionWindow: time.Hour, WindowText: "1h"})
	if err != nil {
		w.t.Fatal(err)
	}
	return file, id
}

// queued is the number of messages in the stream.
func (w *world) queued() uint64 {
	w.t.Helper()
	info, err := w.stream.Info(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return info.State.Msgs
}

// hear listens to a subject and returns what is said next.
func (w *world) hear(subject string) (next func() *nats.Msg) {
	w.t.Helper()
	sub, err := w.conn.SubscribeSync(subject)
	if err == nil {
		err = w.conn.Flush()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return func() *nats.Msg {
		w.t.Helper()
		msg, err := sub.NextMsg(patience)
		if err != nil {
			w.t.Fatal(err)
		}
		return msg
	}
}

const oneCancelled = `
# HELP fusillade_batches_cancelled_total Batches cancelled through this process's API.
# TYPE fusillade_batches_cancelled_total counter
fusillade_batches_cancelled_total 1
`

func TestWholeBatches(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*world) error{
		"cancel": func(w *world) error {
			b, err := w.controller.Cancel(t.Context(), w.id)
			if b.Status != batch.StatusCancelled || b.Counts.Canceled != 10 {
				t.Errorf("cancelled: %+v", b)
			}
			return err
		},
		"delete batch": func(w *world) error { return w.controller.DeleteBatch(t.Context(), w.id) },
		"delete file": func(w *world) error {
			cancelled, err := w.controller.DeleteFile(t.Context(), w.file)
			if len(cancelled) != 1 || cancelled[0] != w.id {
				t.Errorf("cancelled %v", cancelled)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			hint := w.hear(streams.HintCancelPatterns()[0])
			if err := end(w); err != nil {
				t.Fatal(err)
			}
			if n := w.queued(); n != 1 {
				t.Errorf("%d messages are queued, want 1 of another batch", n)
			}
			if msg := hint(); msg.Subject != streams.HintCancel(w.id) || len(msg.Data) != 0 {
				t.Errorf("hint %s: %q", msg.Subject, msg.Data)
			}
			if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(oneCancelled)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSingleRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hint, work := w.hear(streams.HintCancelPatterns()[0]), w.hear(streams.HintWork)
	done, err := w.controller.CancelRequests(t.Context(), w.id, []int32{4, 2, 9})
	if err != nil || len(done.Changed) != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	if n := w.queued(); n != 4 {
		t.Errorf("%d messages are queued, want 4", n)
	}
	if msg := hint(); msg.Subject != streams.HintCancel(w.id) || string(msg.Data) != "2\n4\n9" {
		t.Errorf("hint %s: %q", msg.Subject, msg.Data)
	}
	if done, err := w.controller.RerunLines(t.Context(), w.id, batch.Allowance{}, []int32{4, 1}); err != nil || len(done.Changed) != 1 || len(done.Unchanged) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	work()
	if n, err := w.controller.Rerun(t.Context(), w.id, batch.Allowance{}, batch.Canceled); err != nil || n != 2 {
		t.Errorf("%d retried, %v", n, err)
	}
	work()
}

// The broker is away: the operation is done all the same.
func TestWithoutTheBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn, err := nats.Connect(w.conn.ConnectedUrl())
	if err != nil {
		t.Fatal(err)
	}
	o, err := control.New(control.Config{Store: w.store, Conn: conn, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if b, err := o.Cancel(t.Context(), w.id); err != nil || b.Status != batch.StatusCancelled {
		t.Errorf("%+v, %v", b, err)
	}
	if n, err := o.Rerun(t.Context(), w.id, batch.Allowance{}, batch.Canceled); err != nil || n != 10 {
		t.Errorf("%d retried, %v", n, err)
	}
	if err := o.DeleteBatch(t.Context(), w.id); err != nil {
		t.Error(err)
	}
}
