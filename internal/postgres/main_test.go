package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) {
	// A round of the model costs some hundred statements. What is given on the
	// command line wins.
	if err := flag.Set("rapid.checks", "50"); err != nil {
		panic(err)
	}
	testenv.Main(m)
}

const (
	testModel batch.Model = "org/model-1:free"
	otherName batch.Model = "other model"
	creator               = "alice"
)

// rules are those of a start in a test: what is older than a minute is dead,
// what is older than an hour hangs.
func rules(d batch.DaemonID) StartRules {
	return StartRules{Daemon: d, ProcessingTimeout: time.Hour, StaleThreshold: time.Minute}
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, testenv.DatabaseURL(t))
}

func openStore(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: url, MaxConns: 12, ApplicationName: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// sqlExec runs SQL that the store has no method for and returns the rows affected.
func sqlExec(t testing.TB, s *Store, sql string, args ...any) int64 {
	t.Helper()
	n, err := s.exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// sqlInt reads one number.
func sqlInt(t testing.TB, s *Store, sql string, args ...any) (n int64) {
	t.Helper()
	if err := s.queryRow(t.Context(), sql, args, &n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// templates makes n lines from the given one on, whose models take turns.
func templates(from, n int, models ...batch.Model) []batch.Template {
	out := make([]batch.Template, n)
	for i := range out {
		line := from + i
		out[i] = batch.Template{
			Line: int32(line), CustomID: fmt.Sprintf("id-%d", line), Model: models[i%len(models)],
			Method: "POST", Path: "/v1/chat/completions", Body: fmt.Appendf(nil, `{"n":%d}`, line),
		}
	}
	return out
}

func summary(lines []batch.Template) batch.FileSummary {
	s := batch.FileSummary{Bytes: int64(100 * len(lines)), Requests: len(lines), Endpoint: "/v1/chat/completions"}
	hash := sha256.New()
	for _, l := range lines {
		hash.Write(l.Body)
		i := slices.IndexFunc(s.Models, func(m batch.ModelDemand) bool { return m.Model == l.Model })
		if i < 0 {
			i = len(s.Models)
			s.Models = append(s.Models, batch.ModelDemand{Model: l.Model})
		}
		s.Models[i].Requests++
		s.Models[i].Bytes += int64(len(l.Body))
	}
	s.SHA256 = [32]byte(hash.Sum(nil))
	return s
}

// newFile stores a ready file.
func newFile(t testing.TB, s *Store, lines []batch.Template) batch.FileID {
	t.Helper()
	id, err := s.CreateFile(t.Context(), "input.jsonl", creator)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CopyTemplates(t.Context(), id, lines); err != nil {
		t.Fatal(err)
	}
	if err := s.FinishFile(t.Context(), id, summary(lines)); err != nil {
		t.Fatal(err)
	}
	return id
}

func batchOf(t testing.TB, s *Store, file batch.FileID) batch.ID {
	t.Helper()
	id, created, err := s.CreateBatch(t.Context(), NewBatch{
		File: file, CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: creator,
	})
	if err != nil || !created {
		t.Fatalf("created: %t, err: %v", created, err)
	}
	return id
}

// newBatch stores a file of n lines, whose models take turns, and a batch of it.
func newBatch(t testing.TB, s *Store, n int, models ...batch.Model) batch.ID {
	t.Helper()
	if len(models) == 0 {
		models = []batch.Model{testModel}
	}
	return batchOf(t, s, newFile(t, s, templates(1, n, models...)))
}

// newDaemon registers a daemon that has just said it lives.
func newDaemon(t testing.TB, s *Store) batch.DaemonID {
	t.Helper()
	id := NewDaemonID()
	if err := s.RegisterDaemon(t.Context(), Daemon{ID: id, Role: "consumer", Hostname: "host", PID: 1, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Heartbeat(t.Context(), id, Progress{}); err != nil {
		t.Fatal(err)
	}
	return id
}

// silence dates a daemon's last heartbeat back beyond the stale threshold.
func silence(t testing.TB, s *Store, d batch.DaemonID) {
	t.Helper()
	sqlExec(t, s, `UPDATE daemons SET last_heartbeat = now() - interval '61 s' WHERE id = $1`, [16]byte(d))
}

// claimed claims n requests of a batch and returns them as first deliveries.
func claimed(t testing.TB, s *Store, id batch.ID, n int) []Delivery {
	t.Helper()
	got, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: n}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != n {
		t.Fatalf("%d claimed, want %d", len(got), n)
	}
	return delivered(got, 1)
}

func delivered(requests []ClaimedRequest, number int) []Delivery {
	out := make([]Delivery, len(requests))
	for i, r := range requests {
		out[i] = Delivery{ID: r.ID, Claim: r.Claim, Number: number}
	}
	return out
}

// started claims and starts n requests of a batch.
func started(t testing.TB, s *Store, d batch.DaemonID, id batch.ID, n int) []Delivery {
	t.Helper()
	deliveries := claimed(t, s, id, n)
	for _, st := range start(t, s, rules(d), deliveries...) {
		if st.Verdict != Started {
			t.Fatalf("verdict %d, want started", st.Verdict)
		}
	}
	return deliveries
}

func start(t testing.TB, s *Store, r StartRules, deliveries ...Delivery) []Start {
	t.Helper()
	starts, err := s.Start(t.Context(), r, deliveries)
	if err != nil {
		t.Fatal(err)
	}
	return starts
}

func completed(d Delivery) Completion {
	return Completion{Delivery: d, State: batch.Completed, Attempts: 1, StatusCode: 200, Body: []byte(`{}`)}
}

func failed(d Delivery) Completion {
	return Completion{Delivery: d, State: batch.Failed, Reason: batch.Timeout, Attempts: 1, Detail: "timeout"}
}

func endings(end func(Delivery) Completion, deliveries []Delivery) []Completion {
	out := make([]Completion, len(deliveries))
	for i, d := range deliveries {
		out[i] = end(d)
	}
	return out
}

// finish writes endings and returns how many were written.
func finish(t testing.TB, s *Store, d batch.DaemonID, e ...Completion) int {
	t.Helper()
	written, err := s.Finish(t.Context(), d, e, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(written)
}

func check(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := checker.CheckAll(ctx, s.pool); err != nil {
		t.Error(err)
	}
}

func counts(t testing.TB, s *Store, id batch.ID) batch.Counts {
	t.Helper()
	b, err := s.GetBatch(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.Counts
}

// asBytes compares large bodies at once, and tells none from an empty one.
var asBytes = cmp.Comparer(func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) })

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}
