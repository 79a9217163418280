package ui

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// functions are what templates call.
var functions = template.FuncMap{
	"count": count, "ago": ago, "until": until, "rate": rate, "bytes": byteSize, "percent": percent,
	"utc":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"json":     func(v any) (string, error) { raw, err := json.Marshal(v); return string(raw), err },
	"join":     strings.Join,
	"dict":     dict,
	"duration": duration,
}

// dict makes the data of a part from pairs of a name and a value.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("%d arguments are no pairs", len(pairs))
	}
	out := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", pairs[i])
		}
		out[name] = pairs[i+1]
	}
	return out, nil
}

// count writes a whole number with its thousands apart.
func count(n any) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return sign + text
}

// rate writes a number a second with about three digits.
func rate(perSecond float64) string {
	switch {
	case perSecond >= 99.5:
		return count(int64(math.Round(perSecond)))
	case perSecond >= 9.95:
		return strconv.FormatFloat(perSecond, 'f', 1, 64)
	case perSecond == 0:
		return "0"
	}
	return strconv.FormatFloat(perSecond, 'f', 2, 64)
}

// percent is a part of a whole, for the width of a bar and for people.
func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return math.Round(float64(part)/float64(whole)*1000) / 10
}

// byteSize is in powers of 1000, as in the terminal.
func byteSize(n int64) string {
	size, names := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for size >= 999.5 && i < len(names)-1 {
		size, i = size/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, names[i])
}

// duration writes a time span with two units at most.
func duration(d time.Duration) string {
	d = d.Abs()
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

func ago(t time.Time) string {
	d := time.Since(t)
	if d < 0 {
		return until(t)
	}
	return duration(d) + " ago"
}

func until(t time.Time) string {
	d := time.Until(t)
	if d < 0 {
		return ago(t)
	}
	return "in " + duration(d)
}
