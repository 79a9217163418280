package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"text/tabwriter"
	"time"
)

// list prints objects as they come: in columns, or as JSON, one per line.
func list[T any](t *terminal, asJSON bool, objects iter.Seq2[T, error], raw func(T) json.RawMessage, head string, row func(T) []string) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	if !asJSON { // it is shown by Flush: not before an error
		fmt.Fprintln(w, strings.ReplaceAll(head, " ", "\t"))
	}
	for object, err := range objects {
		if err != nil {
			return err
		}
		if asJSON {
			err = t.printRaw(raw(object))
		} else {
			_, err = fmt.Fprintln(w, strings.Join(row(object), "\t"))
		}
		if err != nil {
			return err
		}
	}
	return w.Flush()
}

// printRaw prints the JSON of an object on a line.
func (t *terminal) printRaw(raw json.RawMessage) error {
	_, err := fmt.Fprintf(t.out, "%s\n", raw)
	return err
}

// member is a line about an object.
type member struct{ name, value string }

// printMembers prints an object for people. Members without a value are left
// out.
func (t *terminal) printMembers(members ...member) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, m := range members {
		if m.value != "" {
			fmt.Fprintf(w, "%s\t%s\n", m.name, plain(m.value))
		}
	}
	return w.Flush()
}

// moment is a time in Unix seconds; 0: none.
func moment(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
