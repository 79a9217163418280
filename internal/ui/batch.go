package ui

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// curvePoints is how many points the plot of a batch has.
const curvePoints = 60

type batchData struct {
	Row           batchRow
	Own           bool // the viewer may change it, and see its requests
	HeldUp, Do    string
	Groups        []groupRow
	Partial       bool
	Usage         []usageRow
	Total         usageRow
	Priced        bool
	Rate          plot
	Output, Error string // ids of its files; empty: there is none
	Events        []batchEvent
	Budget        []budgetTile
	Now           time.Time
}

// usageRow is what was used of a model, and what it cost; empty: it has no price.
type usageRow struct {
	postgres.ModelUsage
	Cost string
}

type groupRow struct {
	postgres.ErrorGroup
	Message string
}

// batchEvent is something that happened to a batch.
type batchEvent struct {
	At   time.Time
	Text string
}

func (d batchData) Title() string { return "Batch " + d.Row.ID }
func (d batchData) Ended() bool   { return !d.Row.Live }

func isNotFound(err error) bool { return errors.Is(err, batch.ErrNotFound) }

// theBatch is the batch that the path names, and whether it is the viewer's own. An
// operator sees how far others' batches are; their requests, and what changes
// them, are for their owners alone, as in the API.
func (u *UI) theBatch(r *http.Request, who api.Caller) (b postgres.Batch, own bool, err error) {
	id, err := batch.ParseID(r.PathValue("id"))
	if err != nil {
		return b, false, batch.ErrNotFound
	}
	owner := &who.Owner
	if who.Admin {
		owner = nil
	}
	b, err = u.cfg.Store.GetBatch(r.Context(), id, owner)
	return b, err == nil && b.CreatedBy == who.Owner, err
}

func (u *UI) batch(r *http.Request, who api.Caller) (any, error) {
	ctx := r.Context()
	b, own, err := u.theBatch(r, who)
	if err != nil {
		return nil, err
	}
	d := batchData{Now: time.Now(), Own: own}
	d.Row = u.batchRow(b, d.Now)
	d.HeldUp, d.Do = u.cfg.API.HeldUp(ctx, b)
	if b.Unsuccessful() > 0 || d.Row.Live {
		groups, partial, err := u.cfg.Store.BatchErrors(ctx, b.ID)
		if err != nil {
			return nil, err
		}
		d.Partial = partial
		for _, g := range groups {
			message := g.Cause
			if message == "" {
				message = g.Reason.Message(g.StatusCode)
			}
			if !own {
				message, g.CustomID = g.Reason.Message(g.StatusCode), ""
			}
			d.Groups = append(d.Groups, groupRow{g, message})
		}
	}
	u.usage(&d, b.Usage)
	d.Budget = budgetTiles(b)
	points, err := u.cfg.Store.BatchCurve(ctx, b.ID, curvePoints)
	if err != nil {
		return nil, err
	}
	d.Rate = ratePlot(b.CreatedAt, points)
	if own && b.Counts.Completed > 0 && !b.OutputDeleted {
		d.Output = batch.ResultFile{Batch: b.ID}.String()
	}
	if own && b.Unsuccessful() > 0 && !b.ErrorsDeleted {
		d.Error = batch.ResultFile{Batch: b.ID, Errors: true}.String()
	}
	d.Events = batchEvents(b, points)
	return d, nil
}

// budgetTile is one bound of a budget, and what of it is spent.
type budgetTile struct{ Unit, Spent, Bound string }

func budgetTiles(b postgres.Batch) (tiles []budgetTile) {
	bill := b.Bill()
	if b.Budget.Tokens > 0 {
		tiles = append(tiles, budgetTile{"tokens", count(bill.Tokens()), count(b.Budget.Tokens)})
	}
	if b.Budget.Cost > 0 {
		tiles = append(tiles, budgetTile{"cost", bill.Cost().String(), b.Budget.Cost.String()})
	}
	return tiles
}

// usage fills in what was used of each model, and in all.
func (u *UI) usage(d *batchData, models []postgres.ModelUsage) {
	var cost batch.Money
	for _, m := range models {
		row := usageRow{ModelUsage: m}
		if price, known := u.cfg.Prices.Of(batch.Model(m.Model)); known {
			of := price.Cost(m.InputTokens, m.OutputTokens)
			row.Cost, d.Priced = of.String(), true
			cost += of
		}
		d.Usage = append(d.Usage, row)
		t := &d.Total.ModelUsage
		t.InputTokens, t.OutputTokens = t.InputTokens+m.InputTokens, t.OutputTokens+m.OutputTokens
		t.CachedTokens, t.ReasoningTokens = t.CachedTokens+m.CachedTokens, t.ReasoningTokens+m.ReasoningTokens
	}
	d.Total.Cost = cost.String()
}

// ratePlot makes rates of how far the batch was when. Points are put together that
// are less than a second apart.
func ratePlot(from time.Time, points []postgres.CurvePoint) plot {
	p := plot{Series: []string{"results/s"}, Data: [][]float64{{}, {}}}
	at, done := from, int64(0)
	for _, c := range points {
		seconds := c.At.Sub(at).Seconds()
		if seconds < 1 {
			continue
		}
		p.Data[0] = append(p.Data[0], math.Round(float64(c.At.UnixMilli())/100)/10)
		p.Data[1] = append(p.Data[1], math.Round(float64(max(c.Done-done, 0))/seconds*100)/100)
		at, done = c.At, c.Done
	}
	return p
}

func batchEvents(b postgres.Batch, points []postgres.CurvePoint) []batchEvent {
	events := []batchEvent{{b.CreatedAt, "created"}}
	if len(points) > 0 {
		events = append(events, batchEvent{points[0].At, "first result"})
	}
	if !b.CancellingAt.IsZero() {
		events = append(events, batchEvent{b.CancellingAt, "cancel asked for"})
	}
	if !b.BudgetExceededAt.IsZero() {
		events = append(events, batchEvent{b.BudgetExceededAt, "budget spent"})
	}
	if !b.FinishedAt.IsZero() {
		return append(events, batchEvent{b.FinishedAt, api.ShownStatus(b)})
	}
	return append(events, batchEvent{b.ExpiresAt, "deadline"})
}

// requestsShown is how many requests a page lists.
const requestsShown = 50

type requestsData struct {
	Row             batchRow
	State, CustomID string
	States          []string
	Requests        []requestRow
	Next            int32
	Searched        bool
}

type requestRow struct {
	Line     int32
	CustomID string
	Model    string
	State    batch.State
	Attempts int
	Failure  string
}

func (d requestsData) Title() string { return "Requests of " + d.Row.ID }
func (d requestsData) Ended() bool   { return true }

var states = []string{
	string(batch.Pending), string(batch.Claimed), string(batch.Processing), string(batch.Completed), string(batch.Failed), string(batch.Canceled), string(batch.Expired),
}

// requestWindows is how often the store is asked for a page that a filter keeps
// empty.
const requestWindows = 10

// requests lists the requests of a batch, without their bodies.
func (u *UI) requests(r *http.Request, who api.Caller) (any, error) {
	b, own, err := u.theBatch(r, who)
	if err == nil && !own {
		err = batch.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	d := requestsData{Row: u.batchRow(b, time.Now()), States: states}
	f := readFilter(r.URL.Query())
	d.State, d.CustomID = f.Status, f.Find
	q := postgres.RequestQuery{Batch: b.ID, File: b.File, State: batch.State(d.State), CustomID: d.CustomID, After: lineOf(f.After)}
	for range requestWindows {
		q.Limit = requestsShown - len(d.Requests)
		page, next, err := u.cfg.Store.ListRequests(r.Context(), q)
		if err != nil {
			return nil, err
		}
		for _, o := range page {
			row := requestRow{Line: o.Line, CustomID: o.CustomID, Model: string(o.Model), State: o.Result.State, Attempts: o.Result.Attempts}
			if o.Result.Reason != "" {
				if row.Failure = o.Result.Cause; row.Failure == "" {
					row.Failure = o.Result.Reason.Message(o.Result.StatusCode)
				}
			}
			d.Requests = append(d.Requests, row)
		}
		if d.Next = next; next == 0 || len(d.Requests) >= requestsShown {
			break
		}
		q.After = next
	}
	d.Searched = d.Next != 0 && len(d.Requests) < requestsShown
	return d, nil
}

type requestData struct {
	Row          batchRow
	Request      requestRow
	Input, Reply body
}

func (d requestData) Title() string { return "Request " + d.Request.CustomID }
func (d requestData) Ended() bool   { return true }

// body is a body as a page shows it: its beginning, and the rest folded.
type body struct {
	Begin, Rest string
	Cut         bool // it is longer than a page shows
	Bytes       int
}

const (
	bodyBegin = 2000
	bodyShown = 200_000
)

// request shows a request with its body and its answer: who comes here asked for
// them.
func (u *UI) request(r *http.Request, who api.Caller) (any, error) {
	b, own, err := u.theBatch(r, who)
	line := lineOf(r.PathValue("line"))
	if err == nil && (!own || line < 1) {
		err = batch.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	page, _, err := u.cfg.Store.ListRequests(r.Context(), postgres.RequestQuery{Batch: b.ID, File: b.File, After: line - 1, Limit: 1})
	if err == nil && (len(page) == 0 || page[0].Line != line) {
		err = batch.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	o := page[0]
	d := requestData{Row: u.batchRow(b, time.Now()), Input: fold(o.Body), Reply: fold(o.Result.Body)}
	d.Request = requestRow{Line: o.Line, CustomID: o.CustomID, Model: string(o.Model), State: o.Result.State, Attempts: o.Result.Attempts}
	if o.Result.Reason != "" {
		if d.Request.Failure = o.Result.Cause; d.Request.Failure == "" {
			d.Request.Failure = o.Result.Reason.Message(o.Result.StatusCode)
		}
	}
	return d, nil
}

// fold makes a body fit to be read.
func fold(raw []byte) body {
	out := body{Bytes: len(raw)}
	text := raw
	if len(raw) <= bodyShown {
		if pretty, err := indent(raw); err == nil {
			text = pretty
		}
	} else {
		text, out.Cut = raw[:bodyShown], true
	}
	shown := []rune(string(text))
	out.Begin = string(shown[:min(len(shown), bodyBegin)])
	out.Rest = string(shown[len([]rune(out.Begin)):])
	return out
}

func indent(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return json.MarshalIndent(json.RawMessage(raw), "", "  ")
}
