package cli

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
	// barWidth is that of the bar itself. What stands around it, but for the
	// state, takes up to barFrame columns.
	barWidth, barFrame = 10, 58
	defaultColumns     = 80
)

// Progress shows how far a batch is: as a bar to a person, else as a line
// every few seconds. It is safe for concurrent use.
type Progress struct {
	terminal *Terminal
	columns  func() int // of the terminal; nil: nobody watches

	mu      sync.Mutex
	bar     *progressbar.ProgressBar // nil: lines
	began   time.Time
	first   int64 // requests that were done at the beginning
	started bool
	shown   time.Time
	latest  frame
	later   *time.Timer // shows the latest frame; nil: it is shown
}

// frame is what there is to show.
type frame struct {
	total, done int64
	state       string
}

// NewProgress returns a progress that shows nothing yet. The caller must call
// End.
func NewProgress(t *Terminal) *Progress {
	p := &Progress{terminal: t}
	if t.Interactive() {
		p.columns = t.columns
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
	if total == 0 {
		return // not read yet
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.latest = frame{total, done, state}
	if !p.started {
		p.started, p.began, p.first = true, now, done
		if p.columns == nil {
			p.shown = now
		}
	}
	if p.columns == nil {
		if now.Sub(p.shown) >= lineInterval {
			p.shown = now
			p.terminal.Notef("%s", p.line(p.latest, now))
		}
		return
	}
	if wait := barInterval - now.Sub(p.shown); wait <= 0 {
		p.draw()
	} else if p.later == nil {
		p.later = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.later != nil {
				p.draw()
			}
		})
	}
}

// draw shows the latest frame as a bar. mu is held.
func (p *Progress) draw() {
	p.cancelLater()
	p.shown = time.Now()
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(p.latest.total,
			progressbar.OptionSetWriter(p.terminal.Err),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("req"),
			progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(barWidth), progressbar.OptionUseANSICodes(true))
	}
	counts := len(fmt.Sprint(p.latest.total))
	p.bar.Describe(shorten(p.latest.state, p.columns()-barFrame-2*counts))
	_ = p.bar.Set64(p.latest.done)
}

// shorten returns at most n characters of a text.
func shorten(text string, n int) string {
	runes := []rune(text)
	switch {
	case len(runes) <= n:
		return text
	case n < 2:
		return ""
	}
	return string(runes[:n-1]) + "…"
}

func (p *Progress) cancelLater() {
	if p.later != nil {
		p.later.Stop()
		p.later = nil
	}
}

func (p *Progress) line(f frame, now time.Time) string {
	elapsed := now.Sub(p.began)
	rate := float64(f.done-p.first) / elapsed.Seconds()
	left := "unknown"
	if rate > 0 {
		left = time.Duration(float64(f.total-f.done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("done %d of %d (%d%%), %s, %.0f/s, time left %s",
		f.done, f.total, f.done*100/f.total, f.state, rate, left)
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
	if p.later != nil {
		p.draw()
	}
	if p.bar != nil {
		_ = p.bar.Exit()
		fmt.Fprintln(p.terminal.Err)
		p.bar = nil
	}
}
