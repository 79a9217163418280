package postgres

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"fusillade/internal/batch"
)

var withLarge = flag.Bool("large", false, "measure with 10,000,000 pending requests, and beside 1,000,000 ended batches, too; on a disk, that takes 20 GB")

// A claim, a finish, a page of the list of batches and a cancel cost the same whatever
// waits, and whatever has ended.
func BenchmarkBySize(b *testing.B) {
	sizes := []struct{ pending, ended int }{{10_000, 0}, {1_000_000, 0}}
	if *withLarge {
		sizes = append(sizes, struct{ pending, ended int }{10_000_000, 0}, struct{ pending, ended int }{1_000_000, 1_000_000})
	}
	for _, size := range sizes {
		s := newStore(b)
		s.timeout = 10 * time.Minute // of what fills it
		d := newDaemon(b, s)
		src := newSource(b, s, size.pending)
		src.prepare(b, benchClaim)
		sqlExec(b, s, `
INSERT INTO batches (id, file_id, endpoint, completion_window, created_by, expires_at, total, completed, status, finished_at)
SELECT gen_random_uuid(), file_id, endpoint, completion_window, created_by, expires_at, total, total, 'completed', now()
  FROM batches, generate_series(1, $1::int)`, size.ended)
		sqlExec(b, s, `VACUUM ANALYZE`)
		run := func(what string, f func(b *testing.B)) {
			b.Run(fmt.Sprintf("%s/pending=%d,ended=%d", what, size.pending, size.ended), f)
		}
		run("claim", func(b *testing.B) {
			for b.Loop() {
				src.prepare(b, benchClaim)
				src.claim(b, benchClaim)
			}
		})
		run("finish", func(b *testing.B) { src.finish(b, d) })
		run("list", func(b *testing.B) {
			for b.Loop() {
				if _, err := s.ListBatches(b.Context(), creator, batch.ID{}, 20); err != nil {
					b.Fatal(err)
				}
			}
		})
		run("cancel", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				id := batchOf(b, s, src.file)
				b.StartTimer()
				if _, err := s.CancelBatch(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
