package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/control"
	"fusillade/internal/localrun"
	"fusillade/internal/postgres"
)

// wholeReport is what a run from file to output measured.
type wholeReport struct {
	Requests    int     `json:"requests"`
	Concurrency int     `json:"concurrency"`
	LatencyMS   float64 `json:"latency_ms"`
	BodyBytes   int     `json:"body_bytes"`

	InputBytes      int64   `json:"input_bytes"`
	IngestPerSecond float64 `json:"ingest_requests_per_second"`
	IngestBytes     float64 `json:"ingest_bytes_per_second"`

	PerSecond   float64 `json:"requests_per_second"`
	Tenths      []tenth `json:"tenths"`
	LastByFirst float64 `json:"last_tenth_by_first"` // rates
	WALBytes    float64 `json:"wal_bytes_per_request"`

	OutputBytes     int64   `json:"output_bytes"`
	OutputPerSecond float64 `json:"output_bytes_per_second"`

	Tables    []postgres.TableStatistics `json:"tables"` // after the output
	PeakBytes int64                      `json:"peak_disk_bytes"`

	DeletedRows      int64   `json:"deleted_rows"`
	DeletedPerSecond float64 `json:"deleted_rows_per_second"`
	AlonePerSecond   float64 `json:"second_batch_alone_requests_per_second"`
	BesidePerSecond  float64 `json:"second_batch_beside_deletion_requests_per_second"`
	BesideRatio      float64 `json:"beside_ratio"`
}

const (
	// secondPart is by how much the second batch is smaller, unless it would be under
	// secondMin.
	secondPart, secondMin = 10, 20000
	// purgeInterval has what is deleted be removed at once.
	purgeInterval = "1000"
	// deletionTimeout bounds a deletion that does not end.
	deletionTimeout = 4 * time.Hour
)

// second is how large the second batch is.
func (o *Options) second() int { return max(o.Requests/secondPart, min(o.Requests, secondMin)) }

// diskNeed is an estimate of the bytes on disk: the input and the output file,
// templates and results with their indexes, the second batch, and the log of Postgres.
func (o *Options) diskNeed() int64 {
	const line, template, result, output, log = 110, 240, 760, 600, 6 << 30
	each := int64(2*o.BodyBytes + line + template + result + output)
	second := int64(o.second()) * int64(o.BodyBytes+template+3*result)
	return int64(o.Requests)*each + second + log
}

// RunWhole takes a generated file the whole way to its output file, measures how the
// rate, the tables and what Postgres writes change meanwhile, and then deletes all of
// it while a second batch runs.
func RunWhole(s cli.Signals, t *cli.Terminal, o Options, settings func() (*config.Standalone, error)) (err error) {
	if err := o.check(); err != nil {
		return cli.Usage(err)
	}
	if o.Models != 1 || o.Runs != 1 || o.Replicas != 0 || o.CPUProfile != "" {
		return cli.Usage(errors.New("--file-to-output is one run of one model: leave out --models, --runs, --replicas and --cpu-profile"))
	}
	cfg, err := settings()
	if err != nil {
		return err
	}
	if err := cfg.PurgeInterval.Set(purgeInterval); err != nil {
		return err
	}
	if err := o.checkDisk(t); err != nil {
		return cli.Usage(err)
	}
	st, err := setUp(s, &o, cfg, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	m := &measurement{options: &o, store: st.local.Store, conn: st.local.Conn, mock: st.mock}
	w := &whole{measurement: m, setup: st, terminal: t}
	if err := w.measure(s); err != nil {
		return err
	}
	if o.JSON {
		return json.NewEncoder(t.Out).Encode(w.report)
	}
	return w.report.print(t)
}

// checkDisk says how much is needed and whether there is so much.
func (o *Options) checkDisk(t *cli.Terminal) error {
	dir, need := o.DataDir, o.diskNeed()
	if dir == "" {
		dir = os.TempDir()
	}
	free, known := freeBytes(dir)
	if !known {
		t.Notef("about %s of disk are needed in %s", cli.Size(need), dir)
		return nil
	}
	t.Notef("about %s of disk are needed in %s, %s are free", cli.Size(need), dir, cli.Size(free))
	if need > free {
		return fmt.Errorf("the disk of %s has %s free, and about %s are needed: take fewer --requests, smaller --body-bytes or another --data-dir", dir, cli.Size(free), cli.Size(need))
	}
	return nil
}

// whole is one run from file to output.
type whole struct {
	*measurement
	setup    *setup
	terminal *cli.Terminal
	report   wholeReport
	peak     int64
}

func (w *whole) measure(s cli.Signals) (err error) {
	ctx, o := s.Taking, w.options
	w.report = wholeReport{Requests: o.Requests, Concurrency: o.Concurrency, LatencyMS: ms(o.Latency), BodyBytes: o.BodyBytes}
	input := filepath.Join(w.setup.dir, "input.jsonl")
	defer func() { err = errors.Join(err, os.RemoveAll(input)) }()
	file, err := w.ingest(ctx, input)
	if err != nil {
		return err
	}
	second, _, err := w.load(ctx, modelName, o.second(), 1)
	if err != nil {
		return err
	}
	stop := w.begin(s, w.setup)
	defer func() { err = errors.Join(err, stop()) }()
	id, err := w.draw(ctx, file)
	if err != nil {
		return err
	}
	if err := w.output(ctx, id); err != nil {
		return err
	}
	if w.report.Tables, err = w.store.TableStatistics(ctx); err != nil {
		return err
	}
	return w.delete(ctx, id, file, second)
}

// ingest writes the input file and stores what is in it.
func (w *whole) ingest(ctx context.Context, path string) (batch.FileID, error) {
	if err := writeFile(path, w.lines(modelName, w.options.Requests, 1)); err != nil {
		return batch.FileID{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return batch.FileID{}, fmt.Errorf("reading the input: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return batch.FileID{}, fmt.Errorf("reading the input: %w", err)
	}
	file, perSecond, err := w.loadFrom(ctx, f, w.options.Requests, 1)
	if err != nil {
		return file, err
	}
	w.report.InputBytes, w.report.IngestPerSecond = info.Size(), perSecond
	w.report.IngestBytes = perSecond * float64(info.Size()) / float64(w.options.Requests)
	w.terminal.Notef("stored %s at %.0f requests/s", cli.Size(info.Size()), perSecond)
	return file, nil
}

func writeFile(path string, from io.Reader) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the input: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	if _, err := io.Copy(buffered, from); err != nil {
		return fmt.Errorf("writing the input: %w", err)
	}
	return buffered.Flush()
}

// draw runs a batch of the file and draws its curve.
func (w *whole) draw(ctx context.Context, file batch.FileID) (batch.ID, error) {
	c := &curve{m: w.measurement, dir: w.setup.dir, total: int64(w.options.Requests)}
	if err := c.begin(ctx); err != nil {
		return batch.ID{}, err
	}
	wal := c.last.wal
	id, err := w.create(ctx, file)
	if err != nil {
		return id, err
	}
	shown := 0
	b, err := w.watch(ctx, id, func(b postgres.Batch) error {
		if err := c.note(ctx, b); err != nil {
			return err
		}
		for ; shown < len(c.tenths); shown++ {
			w.terminal.Notef("%d0 %%: %.0f requests/s", shown+1, c.tenths[shown].PerSecond)
		}
		return nil
	})
	if err = ended(ctx, b, err); err != nil {
		return id, err
	}
	r, n := &w.report, float64(b.Counts.Total)
	r.PerSecond = n / b.FinishedAt.Sub(b.CreatedAt).Seconds()
	r.Tenths, r.WALBytes = c.tenths, float64(c.last.wal-wal)/n
	r.LastByFirst = c.tenths[tenths-1].PerSecond / c.tenths[0].PerSecond
	w.peak = c.peak
	if w.options.CurveFile != "" {
		return id, c.write(w.options.CurveFile)
	}
	return id, nil
}

// ended is the error of a batch that did not end well.
func ended(ctx context.Context, b postgres.Batch, err error) error {
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case b.Counts.Completed != b.Counts.Total:
		return fmt.Errorf("%d of %d requests completed: see the log", b.Counts.Completed, b.Counts.Total)
	}
	return nil
}

// output writes the output file, and removes it.
func (w *whole) output(ctx context.Context, id batch.ID) (err error) {
	path := filepath.Join(w.setup.dir, "output.jsonl")
	outputs, err := cli.NewOutputs(w.terminal, path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(path)) }()
	began := time.Now()
	if err := localrun.WriteResults(ctx, w.store, id, outputs); err != nil {
		return err
	}
	took := time.Since(began)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	w.report.OutputBytes, w.report.OutputPerSecond = info.Size(), float64(info.Size())/took.Seconds()
	w.peak = max(w.peak, diskBytes(w.setup.dir))
	return nil
}

// delete deletes the batch and its file. It measures batches of the second file
// before it, meanwhile and after it.
func (w *whole) delete(ctx context.Context, id batch.ID, file, second batch.FileID) error {
	controller, err := control.New(control.Config{Store: w.store, Conn: w.conn, Shards: w.setup.local.Streams.Shards, Log: w.setup.local.Log})
	if err != nil {
		return err
	}
	before, err := w.rate(ctx, second)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := controller.DeleteBatch(ctx, id); err != nil {
		return fmt.Errorf("deleting the batch: %w", err)
	}
	if _, err := controller.DeleteFile(ctx, file); err != nil {
		return fmt.Errorf("deleting the file: %w", err)
	}
	done, took, err := w.besideDeletion(ctx, id, file, second, began)
	if err != nil {
		return err
	}
	after, err := w.rate(ctx, second)
	if err != nil {
		return err
	}
	r := &w.report
	r.DeletedRows = int64(2 * w.options.Requests)
	r.DeletedPerSecond = float64(r.DeletedRows) / took.Seconds()
	r.AlonePerSecond = 2 / (1/before + 1/after)
	r.BesidePerSecond = float64(done) / took.Seconds()
	r.BesideRatio = r.BesidePerSecond / r.AlonePerSecond
	r.PeakBytes = w.peak
	return nil
}

// besideDeletion runs batches of a file until nothing is left of what is deleted. It
// returns how many requests were done by then, and how long it took.
func (w *whole) besideDeletion(ctx context.Context, id batch.ID, file, second batch.FileID, began time.Time) (done int64, took time.Duration, err error) {
	looked := began
	for left := true; left; {
		next, err := w.create(ctx, second)
		if err != nil {
			return 0, 0, err
		}
		b, err := w.watch(ctx, next, func(b postgres.Batch) error {
			if !left || time.Since(looked) < lookInterval {
				return nil
			}
			looked = time.Now()
			w.peak = max(w.peak, diskBytes(w.setup.dir))
			var err error
			if left, err = w.store.Remains(ctx, id, file); err != nil || left {
				return err
			}
			done, took = done+b.Counts.Done(), time.Since(began)
			return nil
		})
		if err = ended(ctx, b, err); err != nil {
			return 0, 0, err
		}
		if left {
			done += b.Counts.Done()
		}
		if left && time.Since(began) > deletionTimeout {
			return 0, 0, fmt.Errorf("the deletion has not ended after %v: see the log", deletionTimeout)
		}
	}
	return done, took, nil
}

// rate runs a batch of a file with nothing beside it.
func (w *whole) rate(ctx context.Context, file batch.FileID) (float64, error) {
	id, err := w.create(ctx, file)
	if err != nil {
		return 0, err
	}
	b, err := w.wait(ctx, id)
	if err = ended(ctx, b, err); err != nil {
		return 0, err
	}
	return float64(b.Counts.Total) / b.FinishedAt.Sub(b.CreatedAt).Seconds(), nil
}

func (r *wholeReport) print(t *cli.Terminal) error {
	w := cli.NewTable(t.Out, "TENTH SECONDS REQUESTS/S CPU_µs POSTGRES_µs WAL_BYTES VACUUM LIVE_HEAP LIVE_INDEXES LIVE_DEAD RESULTS DISK")
	for _, p := range r.Tenths {
		fmt.Fprintf(w, "%d\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f %%\t%s\t%s\t%d\t%s\t%s\n", p.Tenth, p.Seconds, p.PerSecond, 1e6*p.CPUSeconds, 1e6*p.DatabaseCPU,
			p.WALBytes, 100*p.VacuumShare, cli.Size(p.LiveHeapBytes), cli.Size(p.LiveIndexBytes), p.LiveDead, cli.Size(p.ResultsBytes), cli.Size(p.DiskBytes))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t.Out)
	w = cli.NewTable(t.Out, "TABLE HEAP INDEXES TOAST DEAD INSERTED UPDATED HOT DELETED VACUUMS")
	for _, s := range r.Tables {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", s.Table, cli.Size(s.HeapBytes), cli.Size(s.IndexBytes), cli.Size(s.TOASTBytes),
			s.Dead, s.Inserted, s.Updated, s.HotUpdated, s.Deleted, s.Vacuums)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t.Out)
	w = cli.NewTable(t.Out, "")
	fmt.Fprintf(w, "input\t%s, stored at %.0f requests/s, %s/s\n", cli.Size(r.InputBytes), r.IngestPerSecond, cli.Size(int64(r.IngestBytes)))
	fmt.Fprintf(w, "pipeline\t%.0f requests/s, the last tenth at %.0f %% of the first, %.0f bytes of WAL a request\n", r.PerSecond, 100*r.LastByFirst, r.WALBytes)
	fmt.Fprintf(w, "output\t%s, written at %s/s\n", cli.Size(r.OutputBytes), cli.Size(int64(r.OutputPerSecond)))
	fmt.Fprintf(w, "most on disk\t%s\n", cli.Size(r.PeakBytes))
	fmt.Fprintf(w, "deletion\t%d rows, %.0f a second; nothing is left\n", r.DeletedRows, r.DeletedPerSecond)
	fmt.Fprintf(w, "batch beside it\t%.0f requests/s, %.0f %% of %.0f alone\n", r.BesidePerSecond, 100*r.BesideRatio, r.AlonePerSecond)
	return w.Flush()
}
