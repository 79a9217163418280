package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// encodeSurvey is nil, which is NULL, where there is none.
func encodeSurvey(s *batch.Survey) (*string, error) {
	if s == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding survey: %w", err)
	}
	text := string(encoded)
	return &text, nil
}

const fileSurveysSQL = `SELECT id, survey::text FROM files WHERE id = ANY ($1::uuid[]) AND survey IS NOT NULL`

// FileSurveys returns what files ask for. Those that were not surveyed, or are not
// there, have none. A survey has an entry for each model of its file: callers bound
// how many they ask for.
func (s *Store) FileSurveys(ctx context.Context, ids ...batch.FileID) (map[batch.FileID]batch.Survey, error) {
	keys := make([][16]byte, len(ids))
	for i, id := range ids {
		keys[i] = [16]byte(id)
	}
	type row struct {
		id     batch.FileID
		survey batch.Survey
	}
	rows, err := collect(ctx, s, func(r pgx.CollectableRow) (out row, err error) {
		var encoded []byte
		if err := r.Scan((*[16]byte)(&out.id), &encoded); err != nil {
			return out, err
		}
		return out, json.Unmarshal(encoded, &out.survey)
	}, fileSurveysSQL, keys)
	if err != nil {
		return nil, fmt.Errorf("reading surveys of files: %w", err)
	}
	surveys := make(map[batch.FileID]batch.Survey, len(rows))
	for _, r := range rows {
		surveys[r.id] = r.survey
	}
	return surveys, nil
}
