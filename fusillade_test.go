package fusillade_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"fusillade"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// program is one that embeds Fusillade, with its own Postgres and NATS.
type program struct {
	*fusillade.Fusillade
	cfg  fusillade.Config
	t    *testing.T
	mock *mock.Server
	db   *pgx.Conn
}

func newProgram(t *testing.T, settings mock.Settings, change func(*fusillade.Config)) *program {
	t.Helper()
	endpoint, err := mock.New(mock.Config{Settings: settings, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(endpoint)
	t.Cleanup(upstream.Close)
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.Upstream, cfg.Logger = testenv.DatabaseURL(t), upstream.URL, testenv.Logger(t)
	if cfg.NATS, err = nats.Connect(testenv.NATS(t).URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.NATS.Close)
	if change != nil {
		change(&cfg)
	}
	url := cfg.DatabaseURL
	if cfg.Pool != nil {
		cfg.DatabaseURL = ""
	}
	f, err := fusillade.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if cfg.NATS.IsClosed() {
			t.Error("the program's own connection was closed")
		}
	})
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return &program{f, cfg, t, endpoint, db}
}

// run works until the test ends.
func (p *program) run() { testenv.Run(p.t, p.Run) }

func (p *program) wait(id fusillade.BatchID) fusillade.Batch {
	p.t.Helper()
	b, err := p.Wait(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func requests(n int) []fusillade.Request {
	list := make([]fusillade.Request, n)
	for i := range list {
		list[i] = fusillade.Request{CustomID: fmt.Sprintf("r%d", i), Body: map[string]any{"model": "gpt-4", "messages": []any{}}}
	}
	return list
}

func sequence(n int, last error) func(func(fusillade.Request, error) bool) {
	return func(yield func(fusillade.Request, error) bool) {
		for _, r := range requests(n) {
			if !yield(r, nil) {
				return
			}
		}
		if last != nil {
			yield(fusillade.Request{}, last)
		}
	}
}

// A program submits, waits, and reads each result once, from where it left off.
func TestSubmit(t *testing.T) {
	t.Parallel()
	p := newProgram(t, mock.Settings{Errors: "400=0.2"}, nil)
	p.run()
	const n = 250
	id, err := p.Submit(t.Context(), sequence(n, nil), fusillade.SubmitOptions{Metadata: map[string]string{"k": "v"}, IdempotencyKey: "once"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.Submit(t.Context(), sequence(n, nil), fusillade.SubmitOptions{IdempotencyKey: "once"}); err != nil || again != id {
		t.Errorf("again: %v, %v, want %v", again, err, id)
	}
	b := p.wait(id)
	if b.Status != fusillade.Completed || b.Total != n || b.Completed+b.Failed != n || b.Failed == 0 || b.Metadata["k"] != "v" {
		t.Errorf("%+v", b)
	}
	seen := make(map[string]bool)
	var next, failed int64
	for len(seen) < n {
		before := len(seen)
		for r, err := range p.ResultsFrom(t.Context(), id, next) {
			if err != nil {
				t.Fatal(err)
			}
			if seen[r.CustomID] {
				t.Errorf("%s comes twice", r.CustomID)
			}
			seen[r.CustomID], next = true, r.Next
			if r.Error != nil {
				failed++
				if r.Error.Code == "" || r.StatusCode != 400 {
					t.Errorf("%+v", r)
				}
			} else if !strings.Contains(string(r.Body), "choices") {
				t.Errorf("%s has the body %s", r.CustomID, r.Body)
			}
			if len(seen)%100 == 0 {
				break // and go on from here
			}
		}
		if len(seen) == before {
			t.Fatalf("the results end after %d", before)
		}
	}
	if failed != b.Failed {
		t.Errorf("%d failed results, want %d", failed, b.Failed)
	}
	if err := p.mock.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	if again, err := p.Rerun(t.Context(), id); err != nil || int64(again) != failed {
		t.Errorf("%d are rerun, %v, want %d", again, err, failed)
	}
	if b := p.wait(id); b.Completed != n {
		t.Errorf("after the rerun: %+v", b)
	}
	if _, err := p.Cancel(t.Context(), id); !fusillade.IsEnded(err) {
		t.Errorf("a cancel of what has ended: %v", err)
	}
}

// A batch exists if, and only if, the program's transaction commits.
func TestSubmitTx(t *testing.T) {
	t.Parallel()
	p := newProgram(t, mock.Settings{}, nil)
	p.run()
	if _, err := p.db.Exec(t.Context(), `CREATE SCHEMA mine; CREATE TABLE mine.orders (batch text)`); err != nil {
		t.Fatal(err)
	}
	submit := func(commit bool) fusillade.BatchID {
		tx, err := p.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		id, err := p.SubmitTx(t.Context(), tx, requests(3), fusillade.SubmitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `INSERT INTO mine.orders VALUES ($1)`, id.String()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Batch(t.Context(), id); !errors.Is(err, fusillade.ErrNotFound) {
			t.Errorf("before the commit: %v", err)
		}
		if commit {
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return id
	}
	gone, there := submit(false), submit(true)
	if b := p.wait(there); b.Completed != 3 {
		t.Errorf("%+v", b)
	}
	if _, err := p.Batch(t.Context(), gone); !errors.Is(err, fusillade.ErrNotFound) {
		t.Errorf("rolled back: %v", err)
	}
	if calls := len(p.mock.CustomIDs()); calls != 3 {
		t.Errorf("%d requests were called, want 3", calls)
	}
	var orders int
	if err := p.db.QueryRow(t.Context(), `SELECT count(*) FROM mine.orders`).Scan(&orders); err != nil || orders != 1 {
		t.Errorf("%d orders, %v", orders, err)
	}
}

// As many requests as are not sent in one round trip.
func TestSubmitTxOfMany(t *testing.T) {
	t.Parallel()
	p := newProgram(t, mock.Settings{}, nil)
	p.run()
	const n = 250
	var id fusillade.BatchID
	err := pgx.BeginFunc(t.Context(), p.db, func(tx pgx.Tx) (err error) {
		id, err = p.SubmitTx(t.Context(), tx, requests(n), fusillade.SubmitOptions{IdempotencyKey: "once"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := p.wait(id); b.Completed != n {
		t.Errorf("%+v", b)
	}
}

// The notification of the commit wakes the dispatcher, long before its poll.
func TestSubmitTxWakes(t *testing.T) {
	t.Parallel()
	p := newProgram(t, mock.Settings{}, func(c *fusillade.Config) { c.ClaimInterval = 1000 * 3600 * 1e9 })
	p.run()
	first, err := p.Submit(t.Context(), sequence(1, nil), fusillade.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.wait(first) // it leads, and listens
	for range 3 {
		tx, err := p.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id, err := p.SubmitTx(t.Context(), tx, requests(1), fusillade.SubmitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b := p.wait(id); b.Completed != 1 {
			t.Errorf("%+v", b)
		}
	}
}

// The program says which answers are worth another call.
func TestShouldRetry(t *testing.T) {
	t.Parallel()
	for retry, want := range map[bool]fusillade.Status{true: fusillade.Completed, false: fusillade.Failed} {
		p := newProgram(t, mock.Settings{Errors: "418=1"}, func(c *fusillade.Config) {
			c.Backoff, c.MaxBackoff = 1e6, 1e6
			c.ShouldRetry = func(r fusillade.Response) bool { return retry && r.StatusCode == 418 && len(r.Body) > 0 }
		})
		p.run()
		id, err := p.Submit(t.Context(), sequence(1, nil), fusillade.SubmitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if retry {
			testenv.Eventually(t, "it was called again", func() bool { return p.mock.CustomIDs()["r0"] > 3 })
			if err := p.mock.Configure(mock.Settings{}); err != nil {
				t.Fatal(err)
			}
		}
		if b := p.wait(id); b.Status != want {
			t.Errorf("retry %v: %+v", retry, b)
		}
	}
}

// What is wrong is named, and leaves nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := newProgram(t, mock.Settings{}, nil)
	var bad *fusillade.InvalidInputError
	if _, err := p.SubmitFile(t.Context(), strings.NewReader("{}\nnonsense\n"), fusillade.SubmitOptions{}); !errors.As(err, &bad) || bad.Total != 2 || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("bad lines: %v", err)
	}
	broken := errors.New("the source broke")
	if _, err := p.Submit(t.Context(), sequence(5000, broken), fusillade.SubmitOptions{}); !errors.Is(err, broken) {
		t.Errorf("a source that breaks: %v", err)
	}
	if _, err := p.Submit(t.Context(), sequence(1, nil), fusillade.SubmitOptions{Priority: 101}); err == nil || !strings.Contains(err.Error(), "Priority") {
		t.Errorf("a bad priority: %v", err)
	}
	var left int
	if err := p.db.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM batches)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d files and batches are left, %v", left, err)
	}
	for field, change := range map[string]func(*fusillade.Config){
		"DataDir":                func(c *fusillade.Config) { c.NATS, c.DatabaseURL = nil, "" },
		"NATS":                   func(c *fusillade.Config) { c.DatabaseURL = "" },
		"Upstream":               func(c *fusillade.Config) { c.Upstream = "ftp://x" },
		"STALE_DAEMON_THRESHOLD": func(c *fusillade.Config) { c.StaleDaemonThreshold = 1e9 },
	} {
		cfg := fusillade.DefaultConfig()
		cfg.DatabaseURL, cfg.NATS, cfg.Upstream = "postgres://127.0.0.1:1/x", new(nats.Conn), "http://127.0.0.1:1"
		change(&cfg)
		if _, err := fusillade.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Another module imports the package and runs the lines of its documentation.
func TestOutsideModule(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	module := strings.Fields(string(mod))[1]
	_, requirements, _ := strings.Cut(string(mod), "\nrequire")
	for name, content := range map[string]string{
		"go.mod":  "module example.com/nightly\n\ngo 1.26\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root + "\n\nrequire" + requirements,
		"go.sum":  string(sums),
		"main.go": strings.Replace(outsideProgram, `"fusillade"`, strconv.Quote(module), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	endpoint, err := mock.New(mock.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(endpoint)
	defer upstream.Close()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "nightly", ".")
	build.Dir = dir
	// What the commands are compiled of is what it is compiled of too. The go command
	// may ask for descriptions of modules of which this machine needs nothing.
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), filepath.Join(dir, "nightly"), testenv.DatabaseURL(t), testenv.NATS(t).URL(), upstream.URL)
	out, err := run.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "completed 2 of 2: a b" {
		t.Errorf("%v\n%s", err, out)
	}
}

const outsideProgram = `package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"fusillade"
)

const input = ` + "`" + `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}
{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}
` + "`" + `

func main() {
	ctx, stop := context.WithCancel(context.Background())
	conn, err := nats.Connect(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.NATS, cfg.Upstream = os.Args[1], conn, os.Args[3]
	f, err := fusillade.New(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	id, err := f.SubmitFile(ctx, strings.NewReader(input), fusillade.SubmitOptions{})
	if err != nil {
		log.Fatal(err)
	}
	b, err := f.Wait(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	var ids []string
	for r, err := range f.Results(ctx, id) {
		if err != nil {
			log.Fatal(err)
		}
		ids = append(ids, r.CustomID)
	}
	slices.Sort(ids)
	fmt.Printf("%s %d of %d: %s\n", b.Status, b.Completed, b.Total, strings.Join(ids, " "))
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
}
`

// A batch that has used up its budget is cancelled; one in money needs prices.
func TestSubmitWithABudget(t *testing.T) {
	t.Parallel()
	p := newProgram(t, mock.Settings{Latency: "200ms"}, func(cfg *fusillade.Config) { cfg.ModelPrices = map[string]string{"gpt-*": "1/2"} })
	p.run()
	for _, o := range []fusillade.SubmitOptions{{BudgetTokens: 1}, {BudgetCost: "0.000001"}} {
		id, err := p.Submit(t.Context(), sequence(60, nil), o)
		if err != nil {
			t.Fatal(err)
		}
		if b := p.wait(id); b.Status != fusillade.Cancelled || b.Completed == 0 || b.Canceled == 0 || b.Completed+b.Canceled != 60 {
			t.Errorf("%+v", b)
		}
	}
	for _, o := range []fusillade.SubmitOptions{{BudgetTokens: -1}, {BudgetCost: "0"}, {BudgetCost: "much"}} {
		if _, err := p.Submit(t.Context(), sequence(1, nil), o); err == nil || !strings.Contains(err.Error(), "Budget") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	unpriced := strings.NewReader(`{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"other","messages":[]}}`)
	if _, err := p.SubmitFile(t.Context(), unpriced, fusillade.SubmitOptions{BudgetCost: "1"}); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("without a price: %v", err)
	}
}
