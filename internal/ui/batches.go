package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// batchRow is a batch as lists show it.
type batchRow struct {
	postgres.Batch
	ID     string
	Shown  string        // its status
	Pace   float64       // results a second
	Left   time.Duration // at that pace; 0: it has none
	Late   bool          // it will miss its deadline at that pace
	Live   bool
	Failed int64 // failed, canceled or expired
}

// lateGrace is how old a batch must be before its pace tells anything.
const lateGrace = 30 * time.Second

func (u *UI) batchRow(b postgres.Batch, now time.Time) batchRow {
	row := batchRow{Batch: b, ID: b.ID.String(), Shown: api.ShownStatus(b), Live: !b.Status.Terminal(), Failed: b.Unsuccessful()}
	if !row.Live {
		return row
	}
	row.Pace = u.sampler.pace(b, now)
	left := float64(b.Counts.Total - b.Counts.Done())
	if row.Pace > 0.0001 {
		row.Left = time.Duration(min(left/row.Pace, 1e9)) * time.Second
	}
	if now.Sub(b.CreatedAt) > lateGrace && b.CancellingAt.IsZero() && b.BudgetExceededAt.IsZero() {
		row.Late = row.Pace <= 0.0001 || row.Left > b.ExpiresAt.Sub(now)
	}
	return row
}

// batchesShown is how many batches a page lists.
const batchesShown = 50

type batchesData struct {
	Filter   batchFilter
	Statuses []string
	Rows     []batchRow
	Older    string // the query of the next page; empty: there is none
	Searched bool   // not all were looked at
	Admin    bool
	Now      time.Time
}

// batchFilter is what a form asks for.
type batchFilter struct {
	Status, Owner, Model, Metadata, From, To, Find, After string
	Problem                                               string
}

// Any reports whether something was asked for.
func (f batchFilter) Any() bool {
	return f.Status+f.Owner+f.Model+f.Metadata+f.From+f.To != ""
}

func readFilter(q url.Values) (f batchFilter) {
	for name, into := range map[string]*string{
		"status": &f.Status, "owner": &f.Owner, "model": &f.Model, "metadata": &f.Metadata, "from": &f.From, "to": &f.To, "find": &f.Find, "after": &f.After,
	} {
		if text := strings.TrimSpace(q.Get(name)); len(text) <= 512 && !strings.Contains(text, "\x00") {
			*into = strings.ToValidUTF8(text, "")
		}
	}
	return f
}

// search is what the filter asks the store for.
func (f *batchFilter) search(who api.Caller) postgres.BatchSearch {
	q := postgres.BatchSearch{Owner: scope(who), Model: f.Model, Limit: batchesShown}
	if who.Admin {
		q.Owner = f.Owner
	}
	if f.Status != "" {
		api.SearchStatuses(&q, f.Status)
	}
	if f.Metadata != "" {
		var found bool
		if q.MetadataKey, q.MetadataText, found = strings.Cut(f.Metadata, "="); !found {
			f.Problem = "Metadata is to be written as key=value."
		}
	}
	for _, day := range []struct {
		text string
		into *time.Time
		plus int
	}{{f.From, &q.From, 0}, {f.To, &q.To, 1}} {
		if day.text == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, day.text)
		if err != nil {
			f.Problem = "A day is to be written as 2026-11-29."
			continue
		}
		*day.into = at.AddDate(0, 0, day.plus)
	}
	if f.After != "" {
		if id, err := batch.ParseID(f.After); err == nil {
			q.After = id
		}
	}
	return q
}

func (u *UI) batches(r *http.Request, who api.Caller) (any, error) {
	ctx := r.Context()
	f := readFilter(r.URL.Query())
	d := batchesData{Statuses: api.BatchStatuses, Admin: who.Admin, Now: time.Now()}
	q := f.search(who)
	var found postgres.FoundBatches
	var err error
	switch {
	case f.Problem != "":
	case f.Find != "":
		found, err = u.find(r, who, &f)
	default:
		found, err = u.cfg.Store.FindBatches(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	for _, b := range found.Batches {
		d.Rows = append(d.Rows, u.batchRow(b, d.Now))
	}
	if found.Next != (batch.ID{}) {
		query := r.URL.Query()
		query.Set("after", found.Next.String())
		d.Older, d.Searched = "/ui/batches?"+query.Encode(), len(d.Rows) < batchesShown
	}
	d.Filter = f
	return d, nil
}

// find looks for a batch by its id, or by the custom id of one of its requests.
func (u *UI) find(r *http.Request, who api.Caller, f *batchFilter) (found postgres.FoundBatches, err error) {
	ctx := r.Context()
	if id, parseErr := batch.ParseID(f.Find); parseErr == nil {
		owner := &who.Owner
		if who.Admin {
			owner = nil
		}
		b, err := u.cfg.Store.GetBatch(ctx, id, owner)
		if isNotFound(err) {
			f.Problem = "There is no batch with this id."
			return found, nil
		}
		found.Batches = append(found.Batches, b)
		return found, err
	}
	var all bool
	found.Batches, all, err = u.cfg.Store.FindCustomID(ctx, who.Owner, f.Find)
	switch {
	case err != nil || len(found.Batches) > 0 && all:
	case len(found.Batches) > 0:
		f.Problem = fmt.Sprintf("Only your latest files with %s requests were searched.", count(postgres.CustomIDsSearched))
	case all:
		f.Problem = "None of your batches has a request with this custom id."
	default:
		f.Problem = fmt.Sprintf("No request of your latest files, with %s requests, has this custom id. Look in a batch for an older one.", count(postgres.CustomIDsSearched))
	}
	return found, err
}
