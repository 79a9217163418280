package config

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Level is the severity of a log line.
type Level slog.Level

// Level makes a Level a slog.Leveler.
func (l Level) Level() slog.Level { return slog.Level(l) }

// String returns the name in lower case.
func (l Level) String() string { return strings.ToLower(slog.Level(l).String()) }

// Set reads debug, info, warn or error, in any case.
func (l *Level) Set(text string) error {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(text, level.String()) {
			*l = Level(level)
			return nil
		}
	}
	return fmt.Errorf("is %s, which is not a level", quote(text))
}

// LogFormat is how a log line looks. Empty means that it was not set: a caller
// may choose, and NewLogger takes JSON.
type LogFormat string

// The formats of the log.
const (
	JSON LogFormat = "json"
	Text LogFormat = "text"
)

// Set reads json or text; empty leaves the choice to the caller.
func (f *LogFormat) Set(text string) error {
	switch format := LogFormat(text); format {
	case JSON, Text, "":
		*f = format
		return nil
	}
	return fmt.Errorf("is %s, which is not a format", quote(text))
}

// NewLogger returns a logger that writes to w. Durations are written with
// their unit, as 1.5s, in both formats.
func NewLogger(cfg Logging, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level, ReplaceAttr: durationWithUnit}
	if cfg.Format == Text {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// durationWithUnit keeps slog's JSON from writing a bare number of nanoseconds.
func durationWithUnit(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}
