package bench

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"fusillade/internal/postgres"
)

const (
	tenths = 10
	// lookInterval is between two looks for a vacuum and for what is on the disk.
	lookInterval = time.Second
)

// tenth is how a tenth of the requests went, and how the tables stood at its end.
type tenth struct {
	Tenth       int     `json:"tenth"`
	Seconds     float64 `json:"seconds"` // it took
	PerSecond   float64 `json:"requests_per_second"`
	CPUSeconds  float64 `json:"cpu_seconds_per_request"`
	DatabaseCPU float64 `json:"database_cpu_seconds_per_request"`
	WALBytes    float64 `json:"wal_bytes_per_request"`
	VacuumShare float64 `json:"vacuum_share"` // of its time in which an automatic vacuum ran

	LiveHeapBytes  int64 `json:"requests_heap_bytes"` // of the table of live requests
	LiveIndexBytes int64 `json:"requests_index_bytes"`
	LiveDead       int64 `json:"requests_dead_rows"`
	ResultsBytes   int64 `json:"results_bytes"` // with its indexes
	DiskBytes      int64 `json:"disk_bytes"`    // of the data directory
}

// curve is drawn while a batch runs.
type curve struct {
	m   *measurement
	dir string

	total  int64
	tenths []tenth
	peak   int64 // most bytes on disk that were seen

	last     state   // at the end of the last tenth
	at       instant // of the last note
	looked   time.Time
	looks    int // in this tenth
	vacuumed int // of them while a vacuum ran
}

// instant is how far a batch had come, and when.
type instant struct {
	time time.Time
	done int64
}

// state is what has been spent by the end of a tenth.
type state struct {
	time  time.Time
	spent spending
	wal   int64
}

// begin takes the state before the first request.
func (c *curve) begin(ctx context.Context) (err error) {
	c.last, err = c.now(ctx, time.Now())
	c.at.time = c.last.time
	return err
}

func (c *curve) now(ctx context.Context, at time.Time) (state, error) {
	wal, err := c.m.store.WALBytes(ctx)
	return state{time: at, spent: c.m.spent(), wal: wal}, err
}

// note is given the batch's counters as they go.
func (c *curve) note(ctx context.Context, b postgres.Batch) error {
	now := instant{time.Now(), b.Counts.Done()}
	if now.time.Sub(c.looked) >= lookInterval || b.Status.Terminal() {
		if err := c.look(ctx, now.time); err != nil {
			return err
		}
	}
	for len(c.tenths) < tenths {
		mark := c.total * int64(len(c.tenths)+1) / tenths
		if now.done < mark {
			break
		}
		if err := c.end(ctx, passedAt(c.at, now, mark)); err != nil {
			return err
		}
	}
	c.at = now
	return nil
}

// passedAt is when so many were done, between two notes.
func passedAt(before, after instant, mark int64) time.Time {
	steps := after.done - before.done
	if steps <= 0 {
		return after.time
	}
	part := float64(mark-before.done) / float64(steps)
	return before.time.Add(time.Duration(part * float64(after.time.Sub(before.time))))
}

// look sees whether a vacuum runs and how much is on the disk.
func (c *curve) look(ctx context.Context, now time.Time) error {
	vacuums, err := c.m.store.Vacuuming(ctx)
	if err != nil {
		return err
	}
	c.looked = now
	c.looks++
	if vacuums {
		c.vacuumed++
	}
	c.peak = max(c.peak, diskBytes(c.dir))
	return nil
}

// end ends a tenth.
func (c *curve) end(ctx context.Context, at time.Time) error {
	now, err := c.now(ctx, at)
	if err != nil {
		return err
	}
	tables, err := c.m.store.TableStatistics(ctx)
	if err != nil {
		return err
	}
	n, took := float64(c.total)/tenths, max(at.Sub(c.last.time), time.Microsecond).Seconds()
	t := tenth{
		Tenth: len(c.tenths) + 1, Seconds: took, PerSecond: n / took, WALBytes: float64(now.wal-c.last.wal) / n,
		DatabaseCPU: (now.spent.databaseCPU - c.last.spent.databaseCPU).Seconds() / n,
		DiskBytes:   diskBytes(c.dir),
	}
	t.CPUSeconds = (now.spent.cpu-c.last.spent.cpu).Seconds()/n + t.DatabaseCPU
	if c.looks > 0 {
		t.VacuumShare = float64(c.vacuumed) / float64(c.looks)
	}
	for _, s := range tables {
		switch s.Table {
		case "requests":
			t.LiveHeapBytes, t.LiveIndexBytes, t.LiveDead = s.HeapBytes, s.IndexBytes, s.Dead
		case "results":
			t.ResultsBytes = s.HeapBytes + s.IndexBytes + s.TOASTBytes
		}
	}
	c.tenths = append(c.tenths, t)
	c.peak = max(c.peak, t.DiskBytes)
	c.last, c.looks, c.vacuumed = now, 0, 0
	return nil
}

// write writes the tenths as CSV.
func (c *curve) write(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the curve: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := csv.NewWriter(f)
	_ = w.Write([]string{
		"tenth", "seconds", "requests_per_second", "cpu_seconds_per_request", "database_cpu_seconds_per_request", "wal_bytes_per_request",
		"vacuum_share", "requests_heap_bytes", "requests_index_bytes", "requests_dead_rows", "results_bytes", "disk_bytes",
	})
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, t := range c.tenths {
		_ = w.Write([]string{
			strconv.Itoa(t.Tenth), number(t.Seconds), number(t.PerSecond), number(t.CPUSeconds), number(t.DatabaseCPU), number(t.WALBytes),
			number(t.VacuumShare), whole(t.LiveHeapBytes), whole(t.LiveIndexBytes), whole(t.LiveDead), whole(t.ResultsBytes), whole(t.DiskBytes),
		})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("writing the curve: %w", err)
	}
	return nil
}
