package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// Terminal is where a command prints: results to Out, everything else to Err.
type Terminal struct {
	Out, Err io.Writer
	// Dumb is set for a terminal that cannot move its cursor.
	Dumb bool
}

// Interactive reports whether a person watches.
func (t *Terminal) Interactive() bool {
	f, ok := t.Err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && !t.Dumb
}

// Notef prints a line for people, beside the results.
func (t *Terminal) Notef(format string, args ...any) { fmt.Fprintf(t.Err, format+"\n", args...) }

// PrintJSON prints a value for programs, in lines that people can read too.
func (t *Terminal) PrintJSON(v any) error {
	e := json.NewEncoder(t.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// PrintJSONLine prints a value for programs, on a line.
func (t *Terminal) PrintJSONLine(v any) error { return json.NewEncoder(t.Out).Encode(v) }

// PrintRaw prints the JSON of an object on a line.
func (t *Terminal) PrintRaw(raw json.RawMessage) error {
	_, err := fmt.Fprintf(t.Out, "%s\n", raw)
	return err
}
