package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"text/tabwriter"
	"time"
)

// PrintList prints objects as they come: in columns, whose names are the words
// of head, or as JSON, one per line.
func PrintList[T any](t *Terminal, asJSON bool, objects iter.Seq2[T, error], raw func(T) json.RawMessage, head string, row func(T) []string) error {
	w := NewTable(t.Out, head) // it is shown by Flush: not before an error
	for object, err := range objects {
		if err != nil {
			return err
		}
		if asJSON {
			err = t.PrintRaw(raw(object))
		} else {
			_, err = fmt.Fprintln(w, strings.Join(row(object), "\t"))
		}
		if err != nil {
			return err
		}
	}
	if asJSON {
		return nil
	}
	return w.Flush()
}

// NewTable begins a table whose columns are named by the words of head. Cells
// are separated by tabs; Flush shows it.
func NewTable(out io.Writer, head string) *tabwriter.Writer {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if head != "" {
		fmt.Fprintln(w, strings.Join(strings.Fields(head), "\t"))
	}
	return w
}

// Member is a line about an object.
type Member struct{ Name, Value string }

// PrintMembers prints an object for people. Members without a value are left
// out.
func (t *Terminal) PrintMembers(members ...Member) error {
	w := NewTable(t.Out, "")
	for _, m := range members {
		if m.Value != "" {
			fmt.Fprintf(w, "%s\t%s\n", m.Name, Plain(m.Value))
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

// Plain is a text of unknown origin without what a terminal would act on.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, text)
}
