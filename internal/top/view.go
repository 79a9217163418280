package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fusillade/client"
	"fusillade/internal/cli"
)

// tab is a list that can be shown.
type tab int

const (
	models tab = iota
	batches
	daemons
	tabs
)

var tabNames = [tabs]string{"Models", "Batches", "Daemons"}

// column is one of a list, and how the list is sorted by it: largest first,
// names by the alphabet.
type column[T any] struct {
	name    string
	cell    func(T, rates) string
	compare func(a, b T, r rates) int
	left    bool // texts are on the left, numbers on the right
}

func byNumber[T any, N cmp.Ordered](number func(T) N) func(a, b T, r rates) int {
	return func(a, b T, _ rates) int { return cmp.Compare(number(b), number(a)) }
}

func byText[T any](text func(T) string) func(a, b T, r rates) int {
	return func(a, b T, _ rates) int { return strings.Compare(text(a), text(b)) }
}

var modelColumns = []column[client.ModelStatus]{
	{"PENDING", func(m client.ModelStatus, _ rates) string { return cli.Number(m.Pending + m.Queued) }, byNumber(func(m client.ModelStatus) int64 { return m.Pending + m.Queued }), false},
	{"MODEL", func(m client.ModelStatus, _ rates) string { return m.ID }, byText(func(m client.ModelStatus) string { return m.ID }), true},
	{"LIMIT", func(m client.ModelStatus, _ rates) string { return limitText(m) }, byNumber(func(m client.ModelStatus) int { return m.Limit }), false},
	{"HELD", func(m client.ModelStatus, _ rates) string { return cli.Number(int64(m.Held)) }, byNumber(func(m client.ModelStatus) int { return m.Held }), false},
	{"TAKEN", func(m client.ModelStatus, _ rates) string { return cli.Number(m.Taken) }, byNumber(func(m client.ModelStatus) int64 { return m.Taken }), false},
	{"STATE", func(m client.ModelStatus, _ rates) string { return stateText(m) }, byNumber(func(m client.ModelStatus) int { return len(stateText(m)) }), true},
}

var batchColumns = []column[client.Batch]{
	{"AGE", func(b client.Batch, _ rates) string { return cli.Age(b.CreatedAt) }, byNumber(func(b client.Batch) int64 { return b.CreatedAt }), false},
	{"BATCH", func(b client.Batch, _ rates) string { return b.ID }, byText(func(b client.Batch) string { return b.ID }), true},
	{"STATUS", func(b client.Batch, _ rates) string { return b.Status }, byText(func(b client.Batch) string { return b.Status }), true},
	{"DONE", func(b client.Batch, _ rates) string { return percent(b) }, byNumber(func(b client.Batch) float64 { return float64(done(b)) / float64(max(b.Counts.Total, 1)) }), false},
	{"FAIL", func(b client.Batch, _ rates) string { return cli.Number(b.Counts.Failed) }, byNumber(func(b client.Batch) int64 { return b.Counts.Failed }), false},
	{"RATE", func(b client.Batch, r rates) string { return perSecond(r.batches[b.ID]) },
		func(a, b client.Batch, r rates) int { return cmp.Compare(r.batches[b.ID], r.batches[a.ID]) }, false},
	{"LEFT", leftText, byNumber(func(b client.Batch) int64 { return b.Counts.Total - done(b) }), false},
}

var daemonColumns = []column[client.Daemon]{
	{"ROLE", func(d client.Daemon, _ rates) string { return d.Role }, byText(func(d client.Daemon) string { return d.Role }), true},
	{"HOST", func(d client.Daemon, _ rates) string { return d.Host }, byText(func(d client.Daemon) string { return d.Host }), true},
	{"STATUS", func(d client.Daemon, _ rates) string { return d.Status }, byText(func(d client.Daemon) string { return d.Status }), true},
	{"HEARTBEAT", func(d client.Daemon, _ rates) string {
		return (time.Duration(d.HeartbeatAgeMS) * time.Millisecond).Round(100 * time.Millisecond).String()
	}, byNumber(func(d client.Daemon) int64 { return d.HeartbeatAgeMS }), false},
	{"INFLIGHT", func(d client.Daemon, _ rates) string { return cli.Number(int64(d.InFlight)) }, byNumber(func(d client.Daemon) int { return d.InFlight }), false},
	{"PROCESSED", func(d client.Daemon, _ rates) string { return cli.Number(d.Processed) }, byNumber(func(d client.Daemon) int64 { return d.Processed }), false},
	{"FAILED", func(d client.Daemon, _ rates) string { return cli.Number(d.Failed) }, byNumber(func(d client.Daemon) int64 { return d.Failed }), false},
}

// head is what is true of the whole cluster, and what needs a hand.
func head(s Snapshot, r rates, server string) []string {
	lines := []string{fmt.Sprintf("fusillade %s  %s", server, s.At.Local().Format(time.TimeOnly))}
	if s.Operator {
		lines = append(lines, fmt.Sprintf("%d in flight of %d  %s ended  %s failed  %s pending  %s",
			s.inFlight(), s.limit(), perSecond(r.ended), perSecond(r.failed), cli.Number(s.pending()), cli.Count(int64(len(s.Daemons)), "daemon")))
	} else {
		sum := 0.0
		for _, one := range r.batches {
			sum += one
		}
		lines = append(lines, fmt.Sprintf("%s ended in your batches", perSecond(sum)))
	}
	return append(lines, troubles(s)...)
}

// maxTroubles bounds the lines about what needs a hand.
const maxTroubles = 4

// ofModel are the codes of what an operator is told of the model, and need not be told
// of each of its batches.
var ofModel = map[string]bool{"no_consumer": true, "held": true, "paused": true, "asked": true}

// troubles says what does not go on by itself: a model that is paused or held with
// work to do, and what holds batches up.
func troubles(s Snapshot) (lines []string) {
	switch calls := func(d client.Daemon) bool { return d.Role != "dispatcher" }; {
	case !s.Operator:
	case len(s.Daemons) == 0:
		lines = append(lines, "! No daemon is alive: nothing is called. Start a dispatcher and a consumer.")
	case !slices.ContainsFunc(s.Daemons, calls):
		lines = append(lines, "! No consumer is alive: nothing is called. Start one.")
	}
	for _, m := range s.Models {
		waits := m.Pending+m.Queued+m.Taken > 0
		if state := stateText(m); state != "" && (waits || len(m.Holds) > 0) {
			text := fmt.Sprintf("! %s is %s", m.ID, state)
			if len(m.Holds) > 0 && m.Holds[0].Action != "" && !m.Paused {
				text = strings.TrimSuffix(text, ".") + ". " + m.Holds[0].Action
			}
			lines = append(lines, text)
		}
	}
	for _, b := range s.Batches {
		if text := b.Waiting.String(); text != "" && !b.Ended() && (!s.Operator || !ofModel[b.Waiting.Code]) {
			lines = append(lines, fmt.Sprintf("! %s: %s", b.ID, text))
		}
	}
	if more := len(lines) - maxTroubles; more > 0 {
		lines = append(lines[:maxTroubles-1], fmt.Sprintf("! and %d more", more+1))
	}
	return lines
}

// table lays a list out in columns that fit: the first text column gives way.
func table[T any](rows []T, r rates, columns []column[T], width int) []string {
	cells := [][]string{make([]string, len(columns))}
	for i, c := range columns {
		cells[0][i] = c.name
	}
	for _, row := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = cli.Plain(c.cell(row, r))
		}
		cells = append(cells, line)
	}
	widths, all := make([]int, len(columns)), 2*(len(columns)-1)
	for i := range columns {
		for _, line := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		all += widths[i]
	}
	for i := len(columns) - 1; i >= 0 && all > width; i-- {
		if columns[i].left {
			keep := max(widths[i]-(all-width), 8)
			all -= widths[i] - keep
			widths[i] = keep
		}
	}
	lines := make([]string, len(cells))
	for n, line := range cells {
		var b strings.Builder
		for i, cell := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			cell = fit(cell, widths[i])
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if columns[i].left {
				b.WriteString(cell + gap)
			} else {
				b.WriteString(gap + cell)
			}
		}
		lines[n] = fit(b.String(), width)
	}
	return lines
}

// wrap is a line, or two if one is too short for it.
func wrap(line string, width int) []string {
	if width < 1 || utf8.RuneCountInString(line) <= width {
		return []string{line}
	}
	at := strings.LastIndexByte(fit(line, width), ' ')
	if at < width/2 {
		return []string{fit(line, width)}
	}
	return []string{line[:at], fit("  "+line[at+1:], width)}
}

// fit is at most so many characters of a line.
func fit(line string, width int) string {
	if width < 1 { // the terminal does not say
		return line
	}
	return cli.Shorten(line, width)
}

func limitText(m client.ModelStatus) string {
	switch {
	case m.Limit == 0:
		return "-"
	case m.LimitAuto != nil:
		return fmt.Sprintf("auto %d", m.Limit)
	}
	return fmt.Sprint(m.Limit)
}

// stateText says why no call to a model begins; empty: calls do.
func stateText(m client.ModelStatus) string {
	switch {
	case m.Paused:
		return "paused"
	case len(m.Holds) == 0:
		return ""
	}
	h := m.Holds[0]
	if h.Cause == "" {
		return fmt.Sprintf("held after status %d, on again %s", h.Status, cli.Age(h.Until))
	}
	return fmt.Sprintf("held for %s: %s: %s", cli.Age(h.Since), h.Cause, h.Detail)
}

func percent(b client.Batch) string {
	if b.Counts.Total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", done(b)*100/b.Counts.Total)
}

func leftText(b client.Batch, r rates) string {
	perSecond := r.batches[b.ID]
	switch {
	case b.Ended():
		return "-"
	case perSecond <= 0:
		return "?"
	}
	return cli.Span(time.Duration(float64(b.Counts.Total-done(b)) / perSecond * float64(time.Second)))
}

func perSecond(n float64) string {
	if n > 0 && n < 10 {
		return fmt.Sprintf("%.1f/s", n)
	}
	return fmt.Sprintf("%.0f/s", n)
}

// sorted is the list by one of its columns, and then as the server sent it.
func sorted[T any](rows []T, r rates, c column[T]) []T {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b T) int { return c.compare(a, b, r) })
	return rows
}
