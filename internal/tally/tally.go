// Package tally logs what may happen very often: the first of a kind at once, and the
// others as a count once an interval. An endpoint that is down for an hour is a line
// a minute, however many calls it fails.
package tally

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
)

// Interval is how often counts are logged, unless New is told otherwise.
const Interval = time.Minute

// maxKinds bounds what is told apart; more kinds of a text are counted together.
const maxKinds = 200

// Log logs the first of each kind and counts the others. Its Run logs the counts. It
// is safe for concurrent use.
type Log struct {
	log      *slog.Logger
	interval time.Duration

	mu    sync.Mutex
	kinds map[string]*kind
}

// kind is what has the same text and attributes.
type kind struct {
	level slog.Level
	text  string
	attrs []any
	since time.Time // when it was logged last
	count int       // since then
}

// New returns a Log that logs counts every interval; 0: every Interval.
func New(log *slog.Logger, interval time.Duration) *Log {
	if interval <= 0 {
		interval = Interval
	}
	return &Log{log: log, interval: interval, kinds: make(map[string]*kind)}
}

// Add logs something at once if it has not happened within the interval, with
// attributes that tell its kind and others that are of this one alone; else it is
// counted.
func (l *Log) Add(level slog.Level, text string, attrs []any, alone ...any) {
	key := fmt.Sprint(text, "\x00", attrs)
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[key]
	if k == nil && len(l.kinds) >= maxKinds {
		// All that is new shares one kind: its attributes would not be true of all.
		key, attrs, alone = text, nil, nil
		k = l.kinds[key]
	}
	if k != nil {
		k.count++
		return
	}
	l.kinds[key] = &kind{level: level, text: text, attrs: attrs, since: time.Now()}
	l.log.Log(context.Background(), level, text, append(attrs[:len(attrs):len(attrs)], alone...)...)
}

// Run logs counts until ctx ends, and then what was counted since.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(l.interval / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.flush(l.interval)
		case <-ctx.Done():
			l.flush(0)
			return
		}
	}
}

// flush logs what was counted of kinds that were logged so long ago, and forgets those
// of which nothing was.
func (l *Log) flush(age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for key, k := range l.kinds {
		since := now.Sub(k.since)
		switch {
		case since < age:
		case k.count == 0:
			delete(l.kinds, key)
		default:
			l.log.Log(context.Background(), k.level, k.text, append(k.attrs[:len(k.attrs):len(k.attrs)],
				"count", k.count, "within_seconds", math.Round(since.Seconds()))...)
			k.since, k.count = now, 0
		}
	}
}
