package control_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const model batch.Model = "org/model-1:free"

// world is a batch of ten requests, of which five are claimed and have their
// messages in the stream, as has a request of another batch.
type world struct {
	*testcluster.Cluster
	controller *control.Controller
	metrics    *prometheus.Registry
	file       batch.FileID
	id         batch.ID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: testcluster.New(t), metrics: prometheus.NewRegistry()}
	w.EnsureStreams(streams.Config{InMemory: true, StaleDaemonThreshold: time.Minute})
	var err error
	if w.controller, err = control.New(control.Config{Store: w.Store, Conn: w.Conn, Metrics: w.metrics, Log: testenv.Logger(t)}); err != nil {
		t.Fatal(err)
	}
	w.file, w.id = w.begin(10)
	claimed, err := w.Store.Claim(t.Context(), model, []postgres.Quota{{Batch: w.id, N: 5}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range claimed {
		w.publish(r.ID)
	}
	w.publish(batch.RequestID{Batch: batch.ID{1}, Line: 1})
	return w
}

func (w *world) publish(id batch.RequestID) {
	w.T.Helper()
	if _, err := w.JS.Publish(w.T.Context(), streams.Shard(0).RequestSubject(model, id), nil); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) begin(n int) (batch.FileID, batch.ID) {
	w.T.Helper()
	ctx := w.T.Context()
	file, err := w.Store.CreateFile(ctx, "requests.jsonl", "tester")
	if err != nil {
		w.T.Fatal(err)
	}
	lines := make([]batch.Template, n)
	for i := range lines {
		lines[i] = batch.Template{
			Line: int32(i + 1), CustomID: fmt.Sprint("r", i), Model: model, Method: "POST", Path: "/v1/x", Body: []byte(`{}`),
		}
	}
	if err := w.Store.CopyTemplates(ctx, file, lines); err != nil {
		w.T.Fatal(err)
	}
	summary := batch.FileSummary{Requests: n, Models: []batch.ModelDemand{{Model: model, Requests: n}}}
	if err := w.Store.FinishFile(ctx, file, summary); err != nil {
		w.T.Fatal(err)
	}
	id, _, err := w.Store.CreateBatch(ctx, postgres.NewBatch{File: file, CreatedBy: "tester", CompletionWindow: time.Hour, WindowText: "1h"})
	if err != nil {
		w.T.Fatal(err)
	}
	return file, id
}

// hear listens to a subject and returns what is said next.
func (w *world) hear(subject string) (next func() *nats.Msg) {
	w.T.Helper()
	sub, err := w.Conn.SubscribeSync(subject)
	if err == nil {
		err = w.Conn.Flush()
	}
	if err != nil {
		w.T.Fatal(err)
	}
	return func() *nats.Msg {
		w.T.Helper()
		msg, err := sub.NextMsg(testenv.Patience)
		if err != nil {
			w.T.Fatal(err)
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
			if n := w.Queued(); n != 1 {
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
	if n := w.Queued(); n != 4 {
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
	conn, err := nats.Connect(w.Conn.ConnectedUrl())
	if err != nil {
		t.Fatal(err)
	}
	o, err := control.New(control.Config{Store: w.Store, Conn: conn, Log: slog.New(slog.DiscardHandler)})
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
