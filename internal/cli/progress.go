package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
	jsonInterval = time.Second
	// idleInterval is when a bar is drawn anew though nothing has changed, so that
	// its rate and the time left stay true.
	idleInterval = time.Second
	// rateWindow is what the rate is measured over.
	rateWindow     = 15 * time.Second
	barWidth       = 10
	defaultColumns = 80
)

// ProgressMode is how progress is shown.
type ProgressMode string

const (
	// ProgressAuto is a bar for a person at a terminal, else lines.
	ProgressAuto  ProgressMode = "auto"
	ProgressBar   ProgressMode = "bar"
	ProgressLines ProgressMode = "lines" // one every five seconds
	ProgressJSON  ProgressMode = "json"  // an object a second, one per line
	ProgressNone  ProgressMode = "none"
)

// Progress shows how far a batch is, on standard error. It is safe for
// concurrent use.
type Progress struct {
	terminal *Terminal
	mode     ProgressMode // auto no more
	columns  func() int   // of the terminal

	mu      sync.Mutex
	started bool
	samples []sample // of the last rateWindow, the oldest first
	shown   time.Time
	latest  frame
	later   *time.Timer // draws the bar again; nil: no bar is on the screen
}

// frame is what there is to show.
type frame struct {
	total, done int64
	state       string
}

// sample is how many requests were done at a time.
type sample struct {
	at   time.Time
	done int64
}

// NewProgress returns a progress that shows nothing yet. The caller must call
// End.
func NewProgress(t *Terminal) *Progress {
	p := &Progress{terminal: t, mode: t.Progress, columns: t.columns}
	if p.mode == ProgressAuto || p.mode == "" {
		p.mode = ProgressLines
		if t.Interactive() {
			p.mode = ProgressBar
		}
	}
	return p
}

// columns is the width of the terminal now.
func (t *Terminal) columns() int {
	if f, ok := t.Err.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return defaultColumns
}

// Update shows how many requests are done. What comes too soon after the last
// frame is shown in its time, also if nothing follows.
func (p *Progress) Update(total, done int64, state string) {
	if total == 0 || p.mode == ProgressNone {
		return // not read yet
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	first := !p.started
	p.latest, p.started = frame{total, done, state}, true
	p.measure(now)
	switch {
	case p.mode == ProgressBar:
		p.updateBar(now)
	case p.mode == ProgressJSON && (first || now.Sub(p.shown) >= jsonInterval):
		p.printJSON(now)
	case p.mode == ProgressLines && first:
		p.shown = now
	case p.mode == ProgressLines && now.Sub(p.shown) >= lineInterval:
		p.shown = now
		p.terminal.Notef("%s", p.line())
	}
}

// measure takes a sample, a few of them a second at most.
func (p *Progress) measure(now time.Time) {
	n := len(p.samples)
	if n > 1 && now.Sub(p.samples[n-2].at) < barInterval {
		p.samples = p.samples[:n-1]
	}
	p.samples = append(p.samples, sample{now, p.latest.done})
	for len(p.samples) > 2 && now.Sub(p.samples[0].at) > rateWindow {
		p.samples = p.samples[1:]
	}
}

// pace returns how many requests a second are done, and how long the others
// take at this rate; negative: nobody knows.
func (p *Progress) pace() (perSecond float64, left time.Duration) {
	oldest, newest := p.samples[0], p.samples[len(p.samples)-1]
	if elapsed := newest.at.Sub(oldest.at); elapsed > 0 {
		perSecond = float64(newest.done-oldest.done) / elapsed.Seconds()
	}
	seconds := float64(p.latest.total-p.latest.done) / perSecond
	if perSecond <= 0 || seconds > math.MaxInt32 {
		return max(perSecond, 0), -1
	}
	return perSecond, time.Duration(seconds * float64(time.Second)).Round(time.Second)
}

func leftText(left time.Duration) string {
	if left < 0 {
		return "unknown"
	}
	return left.String()
}

func (p *Progress) updateBar(now time.Time) {
	switch wait := barInterval - now.Sub(p.shown); {
	case wait <= 0 || p.later == nil:
		p.draw()
	default:
		p.later.Reset(wait)
	}
}

// draw shows the latest frame as a bar, over the last one. mu is held.
func (p *Progress) draw() {
	p.shown = time.Now()
	if p.later == nil {
		p.later = time.AfterFunc(idleInterval, p.redraw)
	} else {
		p.later.Reset(idleInterval)
	}
	// The last column stays free: some terminals begin a new line after it.
	fmt.Fprintf(p.terminal.Err, "\r%s\x1b[K", p.bar(p.columns()-1))
}

func (p *Progress) redraw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.later != nil {
		p.measure(time.Now())
		p.draw()
	}
}

// bar is the latest frame in so many columns. What matters least goes first
// where there is no room for all.
func (p *Progress) bar(columns int) string {
	f := p.latest
	text := fmt.Sprintf("%3d%%", f.done*100/f.total)
	if columns >= defaultColumns-1 {
		full := int(f.done * barWidth / f.total)
		text += " [" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
	}
	perSecond, left := p.pace()
	text += fmt.Sprintf(" %d/%d, %.0f/s, %s left, %s", f.done, f.total, perSecond, leftText(left), f.state)
	return Shorten(Plain(text), columns)
}

// Shorten returns at most n characters of a text.
func Shorten(text string, n int) string {
	runes := []rune(text)
	switch {
	case len(runes) <= n:
		return text
	case n < 2:
		return ""
	}
	return string(runes[:n-1]) + "…"
}

func (p *Progress) line() string {
	f := p.latest
	perSecond, left := p.pace()
	return fmt.Sprintf("done %d of %d (%d%%), %s, %.0f/s, time left %s", f.done, f.total, f.done*100/f.total, f.state, perSecond, leftText(left))
}

// printJSON shows the latest frame to a program. mu is held.
func (p *Progress) printJSON(now time.Time) {
	p.shown = now
	perSecond, left := p.pace()
	report := struct {
		Total       int64    `json:"total"`
		Done        int64    `json:"done"`
		PerSecond   float64  `json:"requests_per_second"`
		SecondsLeft *float64 `json:"seconds_left"` // null: unknown
		State       string   `json:"state"`
	}{Total: p.latest.total, Done: p.latest.done, PerSecond: math.Round(perSecond*10) / 10, State: p.latest.state}
	if left >= 0 {
		seconds := left.Seconds()
		report.SecondsLeft = &seconds
	}
	_ = json.NewEncoder(p.terminal.Err).Encode(report)
}

// Notef prints a line without disturbing the bar.
func (p *Progress) Notef(format string, args ...any) {
	p.End()
	p.terminal.Notef(format, args...)
}

// End shows the latest frame and leaves the bar as it stands.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started && p.mode == ProgressJSON {
		p.printJSON(time.Now())
		p.started = false
	}
	if p.later != nil {
		p.draw()
		p.later.Stop()
		p.later = nil
		fmt.Fprintln(p.terminal.Err)
	}
}
