package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

type row struct{ id, name, note string }

var rowColumns = []Column[row]{
	{Name: "ID", Cell: func(r row) string { return r.id }},
	{Name: "NAME", Flexible: true, Cell: func(r row) string { return r.name }},
	{Name: "MORE", Wide: true, Cell: func(row) string { return "more" }},
	{Name: "NOTE", Flexible: true, Cell: func(r row) string { return r.note }},
}

func TestListFormats(t *testing.T) {
	rows := []row{
		{strings.Repeat("i", 38), strings.Repeat("n", 60), "short"},
		{"2", "a\tb\x1b[2J\n", strings.Repeat("ä", 500)},
	}
	raw := func(r row) json.RawMessage { return json.RawMessage(`"` + r.id + `"`) }
	list := func(format Format, columns int) string {
		var out bytes.Buffer
		if err := PrintList(&Terminal{Out: &out, OutColumns: columns}, format, All(rows), raw, rowColumns...); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for _, columns := range []int{80, 100, 200} {
		table := list(FormatTable, columns)
		for line := range strings.Lines(table) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns {
				t.Errorf("%d of %d columns: %q", n, columns, line)
			}
		}
		if strings.Contains(table, "MORE") || !strings.Contains(table, rows[0].id) || strings.ContainsAny(table, "\x1b\t") || strings.Count(table, "\n") != 3 {
			t.Errorf("the table is\n%s", table)
		}
	}
	for name, whole := range map[string]string{"in a file": list(FormatTable, 0), "wide": list(FormatWide, 80)} {
		if !strings.Contains(whole, rows[0].name) || !strings.Contains(whole, rows[1].note) || strings.Contains(whole, "more") != (name == "wide") {
			t.Errorf("%s:\n%s", name, whole)
		}
	}
	if got, want := list(FormatJSON, 80), `"`+rows[0].id+`"`+"\n\"2\"\n"; got != want {
		t.Errorf("as JSON %q, want %q", got, want)
	}
}

// Names that differ at their ends alone are told apart where they are shortened.
func TestNamesAreShortenedInTheMiddle(t *testing.T) {
	columns := []Column[row]{{Name: "NAME", Flexible: true, Names: true, Cell: func(r row) string { return r.name }}}
	for width, want := range map[int]string{
		80: "NAME\nprovider/family/model-a\nprovider/family/model-ß\n",
		16: "NAME\nprovide…/model-a\nprovide…/model-ß\n",
		1:  "NAME\nprovi…odel-a\nprovi…odel-ß\n", // no less than minFlexible
	} {
		var out bytes.Buffer
		rows := All([]row{{name: "provider/family/model-a"}, {name: "provider/family/model-ß"}})
		if err := PrintList(&Terminal{Out: &out, OutColumns: width}, FormatTable, rows, func(row) json.RawMessage { return nil }, columns...); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("in %d columns:\n%s\nwant\n%s", width, out.String(), want)
		}
	}
}

func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for want, at := range map[string]time.Time{
			"0s": now, "119s": now.Add(-119 * time.Second), "2m": now.Add(-2 * time.Minute), "119m": now.Add(-2*time.Hour + time.Second),
			"47h": now.Add(-47 * time.Hour), "2d": now.Add(-48 * time.Hour), "400d": now.Add(-400 * 24 * time.Hour), "in 24h": now.Add(24 * time.Hour),
		} {
			if got := Age(at.Unix()); got != want {
				t.Errorf("%v: %q, want %q", now.Sub(at), got, want)
			}
		}
		if Age(0) != "-" || MomentAndAge(0) != "" {
			t.Error("there is no time and it has an age")
		}
		if got := MomentAndAge(now.Add(time.Hour).Unix()); !strings.HasSuffix(got, "(in 60m)") {
			t.Errorf("ahead: %q", got)
		}
	})
}
