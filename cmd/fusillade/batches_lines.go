package main

import (
	"fmt"
	"strings"

	"fusillade/internal/client"
)

// changeLines does something to single requests. That some could not be
// changed is an error.
func (c *batchesCmd) changeLines(t *terminal, text string, asJSON bool, changed, unchanged string, do func(*client.Client, string) (client.ChangedLines, error)) error {
	id, err := batchID(text)
	if err != nil {
		return err
	}
	return c.with(func(api *client.Client) error {
		done, err := do(api, id.String())
		if err != nil {
			return err
		}
		if asJSON {
			if err := t.printRaw(done.JSON); err != nil {
				return err
			}
		}
		if len(done.Changed) > 0 {
			t.say("%s: %s", changed, lineList(done.Changed))
		}
		if len(done.Unchanged) > 0 {
			return &exitError{exitFailed, fmt.Errorf("unchanged, because they %s: %s", unchanged, lineList(done.Unchanged))}
		}
		return nil
	})
}

func lineList(lines []int32) string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = fmt.Sprint(line)
	}
	return "line " + strings.Join(out, ", ")
}
