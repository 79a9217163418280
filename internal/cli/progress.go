package cli

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
)

// Progress shows how far a batch is: as a bar to a person, else as a line
// every few seconds.
type Progress struct {
	terminal *Terminal
	bar      *progressbar.ProgressBar // nil: lines
	began    time.Time
	first    int64 // requests that were done at the beginning
	started  bool
	said     time.Time
}

// NewProgress returns a progress that shows nothing yet.
func NewProgress(t *Terminal) *Progress { return &Progress{terminal: t} }

// Update shows how many requests are done.
func (p *Progress) Update(total, done int64, state string) {
	if total == 0 {
		return // not read yet
	}
	now := time.Now()
	if !p.started {
		p.started, p.began, p.first, p.said = true, now, done, now
		if p.terminal.Interactive() {
			p.bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(p.terminal.Err), progressbar.OptionThrottle(barInterval),
				progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("req"),
				progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(20), progressbar.OptionUseANSICodes(true))
		}
	}
	if p.bar != nil {
		p.bar.Describe(state)
		_ = p.bar.Set64(done)
		return
	}
	if now.Sub(p.said) >= lineInterval {
		p.said = now
		p.terminal.Notef("%s", p.line(total, done, state, now))
	}
}

func (p *Progress) line(total, done int64, state string, now time.Time) string {
	elapsed := now.Sub(p.began)
	rate := float64(done-p.first) / elapsed.Seconds()
	left := "unknown"
	if rate > 0 {
		left = time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("done %d of %d (%d%%), %s, %.0f/s, time left %s",
		done, total, done*100/total, state, rate, left)
}

// Notef prints a line without disturbing the bar.
func (p *Progress) Notef(format string, args ...any) {
	p.End()
	p.terminal.Notef(format, args...)
}

// End leaves the bar as it stands.
func (p *Progress) End() {
	if p.bar != nil {
		_ = p.bar.Exit()
		fmt.Fprintln(p.terminal.Err)
		p.bar = nil
	}
}
