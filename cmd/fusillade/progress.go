package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"

	"fusillade/internal/consume"
	"fusillade/internal/postgres"
)

const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
	// troubleAge is how long a failure is shown after it happened.
	troubleAge = 10 * time.Second
)

// progress shows how far a batch is: as a bar to a person, else as a line
// every few seconds.
type progress struct {
	terminal *terminal
	bar      *progressbar.ProgressBar // nil: lines
	began    time.Time
	first    int64 // requests that were done at the beginning
	started  bool
	said     time.Time
}

func newProgress(t *terminal) *progress { return &progress{terminal: t} }

func (p *progress) show(b postgres.Batch, s consume.Stats) {
	state := fmt.Sprintf("failed %d, in flight %d", b.Counts.Failed, s.InFlight)
	if s.Retried > 0 {
		state += fmt.Sprintf(", retried %d", s.Retried)
	}
	if t := s.LastError; t != nil && time.Since(t.At) < troubleAge {
		state += " (" + t.Detail + ")"
	}
	p.update(b.Counts.Total, b.Counts.Done(), state)
}

// update shows how many requests are done.
func (p *progress) update(total, done int64, state string) {
	if total == 0 {
		return // not read yet
	}
	now := time.Now()
	if !p.started {
		p.started, p.began, p.first, p.said = true, now, done, now
		if p.terminal.interactive() {
			p.bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(p.terminal.err), progressbar.OptionThrottle(barInterval),
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
		p.terminal.say("%s", p.line(total, done, state, now))
	}
}

func (p *progress) line(total, done int64, state string, now time.Time) string {
	elapsed := now.Sub(p.began)
	rate := float64(done-p.first) / elapsed.Seconds()
	left := "unknown"
	if rate > 0 {
		left = time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("done %d of %d (%d%%), %s, %.0f/s, time left %s",
		done, total, done*100/total, state, rate, left)
}

// note says something without disturbing the bar.
func (p *progress) note(format string, args ...any) {
	p.end()
	p.terminal.say(format, args...)
}

// end leaves the bar as it stands.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Exit()
		fmt.Fprintln(p.terminal.err)
		p.bar = nil
	}
}
