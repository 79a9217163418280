package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Format is how a list is printed.
type Format string

const (
	FormatTable Format = "table" // the columns that most people need, in 80 characters
	FormatWide  Format = "wide"  // all columns, nothing shortened
	FormatJSON  Format = "json"  // one object per line
)

// Column is one of a table about objects of type T.
type Column[T any] struct {
	Name string
	Cell func(T) string // may return a text of unknown origin
	// Wide columns are left out of a plain table.
	Wide bool
	// Flexible cells are shortened where the table is wider than the terminal: at
	// their end, or in the middle of Names, which often differ at the end alone.
	Flexible, Names bool
}

// RawLine is the JSON of an object of texts, numbers and times, which always has one.
func RawLine[T any](object T) json.RawMessage {
	raw, _ := json.Marshal(object)
	return raw
}

// minFlexible is what is left of a flexible cell.
const minFlexible = 12

// PrintList prints objects: in columns, or as JSON, one per line as they come.
func PrintList[T any](t *Terminal, format Format, objects iter.Seq2[T, error], raw func(T) json.RawMessage, columns ...Column[T]) error {
	if format == FormatJSON {
		for object, err := range objects {
			if err == nil {
				err = t.PrintRaw(raw(object))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	var shown []Column[T]
	for _, c := range columns {
		if format == FormatWide || !c.Wide {
			shown = append(shown, c)
		}
	}
	head := make([]string, len(shown))
	for i, c := range shown {
		head[i] = c.Name
	}
	rows := [][]string{head} // shown when all are there: not before an error
	for object, err := range objects {
		if err != nil {
			return err
		}
		row := make([]string, len(shown))
		for i, c := range shown {
			row[i] = Plain(c.Cell(object))
		}
		rows = append(rows, row)
	}
	if width := t.outColumns(); format != FormatWide && width > 0 {
		shortenRows(rows, func(i int) func(string, int) string {
			switch {
			case !shown[i].Flexible:
				return nil
			case shown[i].Names:
				return shortenMiddle
			}
			return Shorten
		}, width)
	}
	w := NewTable(t.Out, "")
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// shortenMiddle returns at most n characters of a text, from both ends.
func shortenMiddle(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n || n < 3 {
		return Shorten(text, n)
	}
	end := n / 2
	return string(runes[:n-1-end]) + "…" + string(runes[len(runes)-end:])
}

// shortenRows shortens cells of the columns that have a way to until each row fits
// into so many columns.
func shortenRows(rows [][]string, shorten func(column int) func(text string, n int) string, columns int) {
	width := 0
	widths := make([]int, len(rows[0]))
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		width += widths[i] + columnGap
	}
	for i := range widths {
		cut := shorten(i)
		if cut == nil || widths[i] <= minFlexible {
			continue
		}
		// Each takes what is left to it after those before it.
		keep := max(widths[i]-max(width-columnGap-columns, 0), minFlexible)
		for _, row := range rows {
			row[i] = cut(row[i], keep)
		}
		width -= widths[i] - keep
	}
}

// outColumns is the width of the terminal that results go to; 0: they go elsewhere.
func (t *Terminal) outColumns() int {
	if t.OutColumns > 0 {
		return t.OutColumns
	}
	if f, ok := t.Out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

const columnGap = 2

// NewTable begins a table whose columns are named by the words of head. Cells
// are separated by tabs; Flush shows it.
func NewTable(out io.Writer, head string) *tabwriter.Writer {
	w := tabwriter.NewWriter(out, 0, 0, columnGap, ' ', 0)
	if head != "" {
		fmt.Fprintln(w, strings.Join(strings.Fields(head), "\t"))
	}
	return w
}

// All yields the objects of a list that is known already.
func All[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, object := range list {
			if !yield(object, nil) {
				return
			}
		}
	}
}

// Member is a line about an object.
type Member struct{ Name, Value string }

// PrintMembers prints an object for people. Members without a value are left
// out.
func (t *Terminal) PrintMembers(members ...Member) error {
	w := NewTable(t.Out, "")
	for _, m := range members {
		if m.Value != "" {
			fmt.Fprintf(w, "%s\t%s\n", Plain(m.Name), Plain(m.Value))
		}
	}
	return w.Flush()
}

// Moment is a time in Unix seconds; 0: none.
func Moment(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

// Age is how long ago a time in Unix seconds was, such as 5m, or how far it is
// ahead, such as in 2h; 0: none.
func Age(seconds int64) string {
	if seconds == 0 {
		return "-"
	}
	age := time.Since(time.Unix(seconds, 0))
	if age < 0 {
		return "in " + Span(-age)
	}
	return Span(age)
}

// MomentAndAge is both, for people who look at one object.
func MomentAndAge(seconds int64) string {
	switch age := Age(seconds); {
	case seconds == 0:
		return ""
	case strings.HasPrefix(age, "in "):
		return fmt.Sprintf("%s (%s)", Moment(seconds), age)
	default:
		return fmt.Sprintf("%s (%s ago)", Moment(seconds), age)
	}
}

// Span is a time in one unit, the largest of which there are two or more.
func Span(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= 2*unit.of {
			return fmt.Sprintf("%d%s", d/unit.of, unit.name)
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// Plain is a text of unknown origin without what a terminal would act on.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, text)
}
