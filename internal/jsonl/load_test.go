package jsonl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// memoryStore is a templateStore that checks what it is asked to do. Its
// functions, if set, are asked for an error first.
type memoryStore struct {
	t        testing.TB
	discard  bool // keep no templates
	onCreate func() error
	onCopy   func(chunk int) error
	onFinish func() error
	onRemove func() error

	mu        sync.Mutex
	state     string // "", uploading, ready or removed
	chunks    int
	templates []batch.Template
	summary   batch.FileSummary
	touched   []time.Time
}

var memoryFile = batch.FileID{7}

func (s *memoryStore) move(id batch.FileID, from, to string, ask func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != from || from != "" && id != memoryFile {
		s.t.Errorf("file %s is %q, and is to become %q", id, s.state, to)
	}
	if ask != nil {
		if err := ask(); err != nil {
			return err
		}
	}
	s.state = to
	return nil
}

func (s *memoryStore) CreateFile(_ context.Context, filename, createdBy string) (batch.FileID, error) {
	if filename != "in.jsonl" || createdBy != "alice" {
		s.t.Errorf("file %q of %q", filename, createdBy)
	}
	return memoryFile, s.move(memoryFile, "", "uploading", s.onCreate)
}

func (s *memoryStore) CopyTemplates(ctx context.Context, id batch.FileID, templates []batch.Template) error {
	return s.move(id, "uploading", "uploading", func() error {
		s.chunks++
		if len(templates) == 0 || len(templates) > loadChunkRequests {
			s.t.Errorf("a chunk of %d templates", len(templates))
		}
		if s.onCopy != nil {
			if err := s.onCopy(s.chunks); err != nil {
				return err
			}
		}
		if !s.discard {
			s.templates = append(s.templates, templates...)
		}
		return ctx.Err()
	})
}

func (s *memoryStore) TouchFile(_ context.Context, id batch.FileID) error {
	return s.move(id, "uploading", "uploading", func() error {
		s.touched = append(s.touched, time.Now())
		return nil
	})
}

func (s *memoryStore) FinishFile(_ context.Context, id batch.FileID, summary batch.FileSummary) error {
	s.summary = summary
	return s.move(id, "uploading", "ready", s.onFinish)
}

func (s *memoryStore) RemoveFile(ctx context.Context, id batch.FileID) error {
	if err := ctx.Err(); err != nil {
		s.t.Errorf("a file is removed under a context that has ended: %v", err)
	}
	return s.move(id, "uploading", "removed", s.onRemove)
}

func load1(t testing.TB, ctx context.Context, s templateStore, source io.Reader, cfg Config) (batch.FileID, batch.FileSummary, error) {
	t.Helper()
	reader, err := NewReader(source, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return Load(ctx, s, reader, "in.jsonl", "alice", nil)
}

// requests are n good lines.
func requests(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(request(fmt.Sprintf("r%d", i)) + "\n")
	}
	return b.String()
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, loadChunkRequests - 1, loadChunkRequests, loadChunkRequests + 1, 2*loadChunkRequests + 5} {
		input := requests(n)
		store := &memoryStore{t: t}
		id, summary, err := load1(t, t.Context(), store, strings.NewReader(input), Config{})
		if err != nil || id != memoryFile || store.state != "ready" {
			t.Fatalf("%d requests: file %s is %q, err %v", n, id, store.state, err)
		}
		want, wantSummary, _ := readAll(t, strings.NewReader(input), Config{})
		if !reflect.DeepEqual(want, store.templates) { // cmp takes seconds for so many
			t.Errorf("%d requests: the %d templates in the store are not those of the file", n, len(store.templates))
		}
		if diff := gocmp.Diff(wantSummary, summary); diff != "" || !gocmp.Equal(summary, store.summary) {
			t.Errorf("%d requests: summary (-want +got):\n%s", n, diff)
		}
		if most := (n + loadChunkRequests - 1) / loadChunkRequests; store.chunks != most {
			t.Errorf("%d requests came in %d chunks, want %d", n, store.chunks, most)
		}
	}
}

var errBroken = errors.New("broken")

// Whatever goes wrong, and wherever: the file is removed and the cause named.
func TestLoadThatFails(t *testing.T) {
	t.Parallel()
	const n = 3 * loadChunkRequests
	good := requests(n)
	broken := func() error { return errBroken }
	for name, tt := range map[string]struct {
		source  io.Reader
		store   *memoryStore
		want    error
		invalid bool
		left    string // the file's state, if it is not removed
	}{
		"source, at once":             {source: iotest.ErrReader(errBroken), want: errBroken},
		"source, in the middle":       {source: io.MultiReader(strings.NewReader(good), iotest.ErrReader(errBroken)), want: errBroken},
		"source, in the first line":   {source: io.MultiReader(strings.NewReader(good[:20]), iotest.ErrReader(errBroken)), want: errBroken},
		"source, cut off":             {source: io.MultiReader(strings.NewReader(good), iotest.ErrReader(io.ErrUnexpectedEOF)), want: io.ErrUnexpectedEOF},
		"source, cut off and wrapped": {source: io.MultiReader(strings.NewReader(good), iotest.ErrReader(fmt.Errorf("next part: %w", io.EOF))), want: io.ErrUnexpectedEOF},
		"a bad line at the end":       {source: strings.NewReader(good + "{}\n"), invalid: true},
		"a bad line at the beginning": {source: strings.NewReader("{}\n" + good), invalid: true},
		"nothing":                     {source: strings.NewReader(""), invalid: true},
		"create":                      {source: strings.NewReader(good), store: &memoryStore{onCreate: broken}, want: errBroken, left: "none"},
		"first chunk":                 {source: strings.NewReader(good), store: &memoryStore{onCopy: func(int) error { return errBroken }}, want: errBroken},
		"a later chunk": {source: strings.NewReader(good), want: errBroken, store: &memoryStore{onCopy: func(chunk int) error {
			if chunk == 2 {
				return errBroken
			}
			return nil
		}}},
		"first chunk of an endless source": {source: &numbered{n: 1 << 40}, store: &memoryStore{onCopy: func(int) error { return errBroken }}, want: errBroken},
		"finish":                           {source: strings.NewReader(good), store: &memoryStore{onFinish: broken}, want: errBroken},
		"remove too":                       {source: strings.NewReader("{}"), store: &memoryStore{onRemove: broken}, want: errBroken, invalid: true, left: "uploading"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := cmp.Or(tt.store, new(memoryStore))
			store.t = t
			id, summary, err := load1(t, t.Context(), store, tt.source, Config{Limits: Limits{MaxRequests: 1 << 30}})
			var invalid *InvalidFileError
			if tt.want != nil && !errors.Is(err, tt.want) || tt.invalid && !errors.As(err, &invalid) || err == nil {
				t.Errorf("error is %v, want %v, of the file: %t", err, tt.want, tt.invalid)
			}
			if id != (batch.FileID{}) || summary.Requests != 0 {
				t.Errorf("file %s with %d requests is returned with an error", id, summary.Requests)
			}
			want := "removed"
			switch tt.left {
			case "none":
				want = ""
			case "uploading":
				want = tt.left
			}
			if store.state != want {
				t.Errorf("the file is %q, want %q", store.state, want)
			}
		})
	}
}

// cancelling ends a context once it has been read for a while, and goes on.
type cancelling struct {
	source io.Reader
	after  int
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.after--; c.after == 0 {
		c.cancel()
	}
	return c.source.Read(p)
}

func TestLoadIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := &cancelling{source: &numbered{n: 1 << 40}, after: 10, cancel: cancel}
	store := &memoryStore{t: t, discard: true}
	_, _, err := load1(t, ctx, store, source, Config{Limits: Limits{MaxRequests: 1 << 30}})
	if !errors.Is(err, context.Canceled) || store.state != "removed" {
		t.Errorf("the file is %q, err %v; want it removed, and canceled", store.state, err)
	}
}

// numbered gives n requests with custom ids of their own.
type numbered struct {
	n, next int
	rest    string
}

func (r *numbered) Read(p []byte) (int, error) {
	if r.rest == "" {
		if r.next == r.n {
			return 0, io.EOF
		}
		r.next++
		r.rest = `{"custom_id":"r` + fmt.Sprint(r.next) + `","method":"POST","url":"/v1/chat/completions","body":{"model":"m","p":"` + padding + `"}}` + "\n"
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

var padding = strings.Repeat("x", 4000)

// Measures the heap of the process, so it doesn't run in parallel.
func TestLoadTakesConstantMemory(t *testing.T) {
	const most = 24 << 20
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, peak := heap(), int64(0)
	store := &memoryStore{t: t, discard: true, onCopy: func(int) error {
		peak = max(peak, heap()-before)
		return nil
	}}
	const n = 15_000 // 60 MB
	_, summary, err := load1(t, t.Context(), store, &numbered{n: n}, Config{})
	if err != nil || summary.Requests != n {
		t.Fatalf("%d requests, err %v", summary.Requests, err)
	}
	if peak > most {
		t.Errorf("%d MB of the file's %d MB were held at once, want at most %d", peak>>20, summary.Bytes>>20, most>>20)
	}
}

// Nothing of a refused file remains in the database itself.
func TestLoadIntoPostgres(t *testing.T) {
	t.Parallel()
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
	rows := func() (files, templates, models int) {
		t.Helper()
		err := db.QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM templates), (SELECT count(*) FROM file_models)`).
			Scan(&files, &templates, &models)
		if err != nil {
			t.Fatal(err)
		}
		return files, templates, models
	}
	const n = loadChunkRequests + 100
	for name, source := range map[string]io.Reader{
		"bad line":   strings.NewReader(requests(n) + "{}\n"),
		"cut off":    io.MultiReader(strings.NewReader(requests(n)), iotest.ErrReader(errBroken)),
		"duplicates": strings.NewReader(requests(n) + request("r0")),
	} {
		if _, _, err := load1(t, t.Context(), store, source, Config{}); err == nil {
			t.Errorf("%s: the file is taken", name)
		}
		if files, templates, models := rows(); files+templates+models != 0 {
			t.Errorf("%s: %d files, %d templates and %d models remain", name, files, templates, models)
		}
	}
	id, summary, err := load1(t, t.Context(), store, strings.NewReader(requests(n)), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if files, templates, models := rows(); files != 1 || templates != n || models != 1 {
		t.Errorf("%d files, %d templates and %d models are kept, want 1, %d and 1", files, templates, models, n)
	}
	if found, err := store.FindFile(t.Context(), summary.SHA256, "alice"); err != nil || found != id {
		t.Errorf("the file that was taken is %s, found %s, err %v", id, found, err)
	}
}

// slowly returns the text in pieces, with a pause before each.
type slowly struct {
	text  string
	piece int
	pause time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.text == "" {
		return 0, io.EOF
	}
	<-time.After(s.pause)
	n := copy(p, s.text[:min(s.piece, len(s.text))])
	s.text = s.text[n:]
	return n, nil
}

// A file is touched while a line of it arrives that takes longer than the hour
// after which an untouched file is removed.
func TestLoadTouchesAFileWithASlowLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &memoryStore{t: t}
		begun := time.Now()
		line := requests(1)
		_, _, err := load1(t, t.Context(), s, &slowly{text: line, piece: len(line)/60 + 1, pause: 2 * time.Minute}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 80*time.Minute {
			t.Fatalf("the line arrived in %s: too soon for this test", took)
		}
		last := begun
		for _, at := range append(s.touched, time.Now()) {
			if idle := at.Sub(last); idle > 30*time.Minute {
				t.Errorf("it lay untouched for %s", idle)
			}
			last = at
		}
	})
}
