package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// Limit is the most calls in flight to a model: a number, or auto within bounds, in
// which case the number is found while it runs. It is comparable; its zero value is
// no limit that was set.
type Limit int64

const (
	// MaxLimit is the highest limit of a model.
	MaxLimit = 1_000_000
	// autoLeast and autoMost are the bounds of auto without any.
	autoLeast, autoMost = 1, 1000
	// autoBits hold MaxLimit. An automatic limit is negative: its bounds side by side.
	autoBits = 20
)

// AutoLimit is an automatic limit within bounds: 1 ≤ least ≤ most ≤ MaxLimit.
func AutoLimit(least, most int) Limit { return -Limit(least<<autoBits | most) }

// Auto returns the bounds of an automatic limit.
func (l Limit) Auto() (least, most int, ok bool) {
	if l >= 0 {
		return 0, 0, false
	}
	return int(-l) >> autoBits, int(-l) & (1<<autoBits - 1), true
}

// Most is the number, or the upper bound.
func (l Limit) Most() int {
	if _, most, ok := l.Auto(); ok {
		return most
	}
	return int(l)
}

// String spells it as ParseLimit reads it.
func (l Limit) String() string {
	least, most, ok := l.Auto()
	switch {
	case !ok:
		return strconv.FormatInt(int64(l), 10)
	case least == autoLeast && most == autoMost:
		return "auto"
	}
	return fmt.Sprintf("auto:%d-%d", least, most)
}

// ParseLimit reads a number from 1 to MaxLimit, auto, or auto:MIN-MAX. The error's
// text follows the name of what was read.
func ParseLimit(text string) (Limit, error) {
	if text == "auto" {
		return AutoLimit(autoLeast, autoMost), nil
	}
	if bounds, ok := strings.CutPrefix(text, "auto:"); ok {
		low, high, _ := strings.Cut(bounds, "-")
		least, most := limitNumber(low), limitNumber(high)
		if least == 0 || most < least {
			return 0, fmt.Errorf("is no automatic limit: want auto:MIN-MAX, whole numbers with 1 ≤ MIN ≤ MAX ≤ %d", MaxLimit)
		}
		return AutoLimit(least, most), nil
	}
	n := limitNumber(text)
	if n == 0 {
		return 0, fmt.Errorf("is not a whole number from 1 to %d, auto or auto:MIN-MAX", MaxLimit)
	}
	return Limit(n), nil
}

// limitNumber reads a number from 1 to MaxLimit, as it is written; 0: it is none.
func limitNumber(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text || n < 1 || n > MaxLimit {
		return 0
	}
	return n
}

// MarshalJSON writes a number, or the text of an automatic limit.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l < 0 {
		return strconv.AppendQuote(nil, l.String()), nil
	}
	return strconv.AppendInt(nil, int64(l), 10), nil
}

// Set reads it, for settings and flags.
func (l *Limit) Set(text string) error {
	limit, err := ParseLimit(text)
	if err == nil {
		*l = limit
	}
	return err
}
