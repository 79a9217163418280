package ui

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
)

// lineOf reads the number of a line; 0: it is none.
func lineOf(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

// filesShown is how many files a page lists.
const filesShown = 50

type filesData struct {
	Files  []fileRow
	Older  string
	Priced bool // a model of theirs has a price
}

// fileRow is a file and what its requests ask for.
type fileRow struct {
	postgres.File
	Survey *batch.Survey // nil: it was not surveyed
	Total  batch.SurveyTotal
	Cost   string // at most, by the prices of now; empty: no model has one
}

func (filesData) Ended() bool { return true }

// files lists the input files of the viewer's own.
func (u *UI) files(r *http.Request, who api.Caller) (any, error) {
	q := postgres.FileQuery{Owner: who.Owner, Limit: filesShown + 1, Inputs: true}
	if id, err := batch.ParseFileID(r.URL.Query().Get("after")); err == nil {
		q.After = &postgres.ListedFile{File: postgres.File{ID: id}}
	}
	list, err := u.cfg.Store.ListFiles(r.Context(), q)
	if err != nil {
		return nil, err
	}
	ids := make([]batch.FileID, min(len(list), filesShown))
	for i := range ids {
		ids[i] = list[i].ID
	}
	surveys, err := u.cfg.Store.FileSurveys(r.Context(), ids...)
	var d filesData
	for i := range ids {
		row := u.fileRow(list[i].File, surveys)
		d.Priced = d.Priced || row.Cost != ""
		d.Files = append(d.Files, row)
	}
	if len(list) > filesShown {
		d.Older = "/ui/files?after=" + d.Files[filesShown-1].ID.String()
	}
	return d, err
}

type modelsData struct {
	Models []control.ModelStatus
	Names  []string // of who is no operator
	Admin  bool
}

// models shows operators what is known of each model, and owners the names of those
// that they may use.
func (u *UI) models(r *http.Request, who api.Caller) (any, error) {
	d := modelsData{Admin: who.Admin}
	if !who.Admin {
		var err error
		d.Names, err = u.cfg.API.ModelNames(r.Context(), who.Owner)
		return d, err
	}
	var err error
	d.Models, err = u.cfg.Controller.Models(r.Context())
	return d, err
}

type daemonsData struct{ Daemons []postgres.DaemonStatus }

func (u *UI) daemons(r *http.Request, _ api.Caller) (any, error) {
	list, err := u.cfg.Store.Daemons(r.Context())
	dead := 0
	list = slices.DeleteFunc(list, func(d postgres.DaemonStatus) bool {
		if d.Status == "dead" {
			dead++
		}
		return d.Status == "dead" && dead > 20
	})
	return daemonsData{list}, err
}

type keysData struct {
	Keys []postgres.APIKey
	New  string // the token of one that was just made
}

func (keysData) Title() string { return "API keys" }
func (keysData) Ended() bool   { return true }

func (u *UI) keys(r *http.Request, _ api.Caller) (any, error) {
	keys, err := u.cfg.Store.APIKeys(r.Context())
	slices.Reverse(keys)
	return keysData{Keys: keys}, err
}

type webhooksData struct {
	Webhooks   []postgres.Webhook
	Deliveries []postgres.DeliveryStatus
}

func (webhooksData) Ended() bool { return true }

// deliveriesShown is how many deliveries a page lists.
const deliveriesShown = 100

func (u *UI) webhooks(r *http.Request, _ api.Caller) (any, error) {
	var d webhooksData
	var err error
	if d.Webhooks, err = u.cfg.Store.Webhooks(r.Context()); err != nil {
		return nil, err
	}
	d.Deliveries, err = u.cfg.Store.Deliveries(r.Context(), deliveriesShown)
	return d, err
}

type ownersData struct {
	Owners []ownerRow
}

type ownerRow struct {
	postgres.OwnerUse
	Weight float64
	Own    bool // the weight was set
}

func (ownersData) Ended() bool { return true }

func (u *UI) owners(r *http.Request, _ api.Caller) (any, error) {
	use, err := u.cfg.Store.OwnersUse(r.Context())
	if err != nil {
		return nil, err
	}
	weights, err := u.cfg.Store.OwnerWeights(r.Context())
	if err != nil {
		return nil, err
	}
	var d ownersData
	for _, o := range use {
		weight, own := weights[o.Owner]
		delete(weights, o.Owner)
		d.Owners = append(d.Owners, ownerRow{o, cmp.Or(weight, 1), own})
	}
	for name, weight := range weights {
		d.Owners = append(d.Owners, ownerRow{postgres.OwnerUse{Owner: name}, weight, true})
	}
	slices.SortFunc(d.Owners, func(a, b ownerRow) int { return cmp.Compare(a.Owner, b.Owner) })
	return d, nil
}
