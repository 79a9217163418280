package ui

import (
	"net/http"
	"slices"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// fileData is one file: what its requests ask for, and the batches that were made of it.
type fileData struct {
	File    fileRow
	Batches []batchRow
	Older   string // the next page of batches; empty: there is none
}

func (d fileData) Title() string { return "File " + d.File.ID.String() }

func (d fileData) Ended() bool {
	return !slices.ContainsFunc(d.Batches, func(b batchRow) bool { return b.Live })
}

// file shows a file to its owner. Others have none there, operators too: a file is its
// requests.
func (u *UI) file(r *http.Request, who api.Caller) (any, error) {
	ctx := r.Context()
	id, err := batch.ParseFileID(r.PathValue("id"))
	if err != nil {
		return nil, batch.ErrNotFound
	}
	f, err := u.cfg.Store.GetFile(ctx, who.Owner, id)
	if err != nil {
		return nil, err
	}
	surveys, err := u.cfg.Store.FileSurveys(ctx, id)
	if err != nil {
		return nil, err
	}
	d := fileData{File: u.fileRow(f, surveys)}
	after, err := batch.ParseID(r.URL.Query().Get("after"))
	if err != nil {
		after = batch.ID{}
	}
	list, err := u.cfg.Store.FileBatches(ctx, id, after, batchesShown+1)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, b := range list[:min(len(list), batchesShown)] {
		d.Batches = append(d.Batches, u.batchRow(b, now))
	}
	if len(list) > batchesShown {
		d.Older = "/ui/files/" + id.String() + "?after=" + d.Batches[batchesShown-1].ID
	}
	return d, nil
}

// fileRow is a file with what it asks for, if it was surveyed.
func (u *UI) fileRow(f postgres.File, surveys map[batch.FileID]batch.Survey) fileRow {
	row := fileRow{File: f}
	s, there := surveys[f.ID]
	if !there {
		return row
	}
	s = s.WithPrices(u.cfg.Prices)
	row.Survey, row.Total = &s, s.Total()
	if s.Priced() {
		if row.Cost = row.Total.Cost.String(); row.Total.Unpriced > 0 {
			row.Cost += " + ?"
		}
	}
	return row
}
