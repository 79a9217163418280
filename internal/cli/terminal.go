package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Terminal is where a command prints: results to Out, everything else to Err.
type Terminal struct {
	Out, Err io.Writer
	// Dumb is set for a terminal that cannot move its cursor.
	Dumb bool
	// Quiet leaves out everything but results and errors.
	Quiet bool
	// OutColumns is the width of Out; 0: what Out says itself.
	OutColumns int
	// Progress is how progress is shown; empty: auto.
	Progress ProgressMode
}

// Interactive reports whether a person watches.
func (t *Terminal) Interactive() bool {
	f, ok := t.Err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && !t.Dumb
}

// Notef prints a line for people, beside the results; among progress for
// programs, as an object.
func (t *Terminal) Notef(format string, args ...any) {
	switch {
	case t.Quiet:
	case t.Progress == ProgressJSON:
		_ = json.NewEncoder(t.Err).Encode(map[string]string{"note": fmt.Sprintf(format, args...)})
	default:
		fmt.Fprintf(t.Err, format+"\n", args...)
	}
}

// longWait is how long nobody need be told what takes its time.
const longWait = time.Second

// Waiting says what is done, once it takes longer than a second. The caller must
// call done, once.
func (t *Terminal) Waiting(format string, args ...any) (done func()) {
	said := make(chan struct{})
	timer := time.AfterFunc(longWait, func() {
		defer close(said)
		t.Notef(format+" …", args...)
	})
	return func() {
		if !timer.Stop() {
			<-said
		}
	}
}

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
