package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Done is what was done within some time.
type Done struct {
	Completed, Unsuccessful int64 // requests; failed, canceled or expired
	InTokens, OutTokens     int64
}

// Add adds what else was done.
func (d *Done) Add(more Done) {
	d.Completed, d.Unsuccessful = d.Completed+more.Completed, d.Unsuccessful+more.Unsuccessful
	d.InTokens, d.OutTokens = d.InTokens+more.InTokens, d.OutTokens+more.OutTokens
}

// Sample is what was done within a minute.
type Sample struct {
	At time.Time // its end
	Done
}

const (
	// Half the time ago: what was done since the look before is of the minute in
	// which most of that time lies.
	recordDoneSQL = `
INSERT INTO samples AS s (owner, minute, completed, unsuccessful, input_tokens, output_tokens)
SELECT owner, date_trunc('minute', now() - $1::interval / 2), completed, unsuccessful, input, output
  FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS d (owner, completed, unsuccessful, input, output)
 ORDER BY owner
    ON CONFLICT (owner, minute) DO UPDATE SET completed = s.completed + excluded.completed, unsuccessful = s.unsuccessful + excluded.unsuccessful,
       input_tokens = s.input_tokens + excluded.input_tokens, output_tokens = s.output_tokens + excluded.output_tokens`

	removeSamplesSQL = `
DELETE FROM samples WHERE (owner, minute) IN (
       SELECT owner, minute FROM samples WHERE minute < now() - interval '24 hours' ORDER BY minute LIMIT 10000)`

	// Minutes that are about to be written are left out.
	lastHourSQL = `
SELECT m + interval '1 min', COALESCE(s.completed, 0), COALESCE(s.unsuccessful, 0), COALESCE(s.input_tokens, 0), COALESCE(s.output_tokens, 0)
  FROM generate_series(date_trunc('minute', now() - interval '60 min 20 s'), date_trunc('minute', now() - interval '80 s'), interval '1 min') AS m
  LEFT JOIN samples s ON s.owner = $1 AND s.minute = m
 ORDER BY m`
)

// RecordDone adds what each owner has done within the last so long to the samples of
// its minute; the empty owner is all. It is for the leader.
func (s *Store) RecordDone(ctx context.Context, within time.Duration, done map[string]Done) error {
	owners := make([]string, 0, len(done))
	var columns [4][]int64
	for owner, d := range done {
		owners = append(owners, owner)
		for i, n := range []int64{d.Completed, d.Unsuccessful, d.InTokens, d.OutTokens} {
			columns[i] = append(columns[i], n)
		}
	}
	_, err := s.exec(ctx, recordDoneSQL, within, owners, columns[0], columns[1], columns[2], columns[3])
	return wrap("recording what was done", err)
}

// RemoveSamples removes samples that are older than a day, some thousands at a time.
func (s *Store) RemoveSamples(ctx context.Context) error {
	_, err := s.exec(ctx, removeSamplesSQL)
	return wrap("removing old samples", err)
}

// LastHour returns what an owner has done in each minute of the last hour, oldest
// first; of all for an empty one. The minute in progress is not among them, nor for
// some seconds the one before.
func (s *Store) LastHour(ctx context.Context, owner string) ([]Sample, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (d Sample, err error) {
		err = row.Scan(&d.At, &d.Completed, &d.Unsuccessful, &d.InTokens, &d.OutTokens)
		return d, err
	}, lastHourSQL, owner)
	return list, wrap("reading what was done in the last hour", err)
}
