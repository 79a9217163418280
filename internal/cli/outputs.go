package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Outputs are the two that the results of a batch go to.
type Outputs struct {
	Results  *Output
	Failures *Output // may be the same as Results, if both are standard output
}

// NewOutputs checks the paths. Without a name of its own the errors file has
// the output's, with .errors before its extension; where results go to
// standard output, failures go there too.
func NewOutputs(t *Terminal, results, failures string, inputs ...*Input) (*Outputs, error) {
	r, err := NewOutput(t, "--output", results, inputs...)
	if err != nil {
		return nil, err
	}
	if failures == "" {
		failures = "-"
		if !r.IsStdout() {
			ext := filepath.Ext(results)
			failures = strings.TrimSuffix(results, ext) + ".errors" + ext
		}
	}
	f, err := NewOutput(t, "--errors", failures, inputs...)
	if err != nil {
		return nil, err
	}
	if r.Is(f) && !r.IsStdout() {
		return nil, fmt.Errorf("--output and --errors are the same file: %s", r)
	}
	return &Outputs{Results: r, Failures: f}, nil
}

// Fill has both written, and gives files their names then. The errors file is
// written if there is a failure, or if there is one of an earlier time.
func (o *Outputs) Fill(write func(results, failures io.Writer) (failed bool, err error)) error {
	results, err := o.Results.Create()
	if err != nil {
		return err
	}
	defer results.Abandon()
	failures := results // in the order of the output, where both are one
	if !o.Results.Is(o.Failures) {
		if failures, err = o.Failures.Create(); err != nil {
			return err
		}
		defer failures.Abandon()
	}
	failed, err := write(results, failures)
	if err != nil {
		return err
	}
	if err := results.Keep(); err != nil || failures == results {
		return err
	}
	if failed || o.Failures.Exists() {
		return failures.Keep()
	}
	return nil
}
