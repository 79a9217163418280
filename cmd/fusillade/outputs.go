package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

// outputs are the files that the results go to. Each appears whole or not at
// all: it is written beside its place and renamed.
type outputs struct {
	results, errors string
}

// newOutputs checks the paths. Without a name of its own the errors file has
// the output's, with .errors before its extension.
func newOutputs(results, failures string) (*outputs, error) {
	if failures == "" {
		ext := filepath.Ext(results)
		failures = strings.TrimSuffix(results, ext) + ".errors" + ext
	}
	o := &outputs{results: results, errors: failures}
	return o, o.check()
}

// check finds out before any work is done whether the files can be written.
func (o *outputs) check() error {
	for _, file := range []struct{ flag, path string }{{"--output", o.results}, {"--errors", o.errors}} {
		if err := checkTarget(file.flag, file.path); err != nil {
			return err
		}
	}
	if o.results == o.errors {
		return fmt.Errorf("--output and --errors are the same file: %s", o.results)
	}
	return nil
}

// checkTarget finds out whether a file can be written.
func checkTarget(flag, path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %s is not a file", flag, path)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: the directory of %s: %w", flag, path, err)
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".fusillade-*")
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

const resultsPage = 1000

// write streams the results of a batch to the files, in output order. The
// errors file is written if there is an error, or if there is one of an
// earlier run.
func (o *outputs) write(ctx context.Context, store *postgres.Store, id batch.ID) error {
	return o.fill(func(results, failures *wholeFile) (bool, error) {
		return writeResults(ctx, store, id, results, failures)
	})
}

// fill has the files written and gives them their names.
func (o *outputs) fill(write func(results, failures *wholeFile) (failed bool, err error)) error {
	results, err := create(o.results)
	if err != nil {
		return err
	}
	defer results.abandon()
	failures, err := create(o.errors)
	if err != nil {
		return err
	}
	defer failures.abandon()
	failed, err := write(results, failures)
	if err != nil {
		return err
	}
	if err := results.keep(); err != nil {
		return err
	}
	if _, err := os.Stat(o.errors); failed || err == nil {
		return failures.keep()
	}
	return nil
}

func writeResults(ctx context.Context, store *postgres.Store, id batch.ID, results, failures *wholeFile) (failed bool, err error) {
	var line []byte
	for next := int64(0); ; {
		page, err := store.Results(ctx, id, next, resultsPage)
		if err != nil || len(page) == 0 {
			return failed, err
		}
		for _, r := range page {
			w := results
			if r.State == batch.Completed {
				line = jsonl.AppendOutputLine(line[:0], r)
			} else {
				line, w, failed = jsonl.AppendErrorLine(line[:0], r), failures, true
			}
			if _, err := w.Write(line); err != nil {
				return failed, fmt.Errorf("writing results: %w", err)
			}
			next = r.Seq + 1
		}
	}
}

// summary says how the run went, as its exit code does.
func (o *outputs) summary(t *terminal, b postgres.Batch) error {
	t.say("%d of %d requests completed: %s", b.Counts.Completed, b.Counts.Total, o.results)
	if failed := b.Counts.Done() - b.Counts.Completed; failed > 0 {
		return &exitError{exitFailed, fmt.Errorf("%d requests failed: see %s", failed, o.errors)}
	}
	return nil
}

// wholeFile is a file that takes its name when it is complete.
type wholeFile struct {
	*bufio.Writer
	file *os.File
	path string
	kept bool
}

func create(path string) (*wholeFile, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".fusillade-*")
	if err != nil {
		return nil, fmt.Errorf("writing results: %w", err)
	}
	return &wholeFile{Writer: bufio.NewWriterSize(f, 1<<20), file: f, path: path}, nil
}

func (w *wholeFile) keep() error {
	err := errors.Join(w.Flush(), w.file.Chmod(0o644), w.file.Sync(), w.file.Close())
	if err == nil {
		err = os.Rename(w.file.Name(), w.path)
	}
	if err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	w.kept = true
	return nil
}

func (w *wholeFile) abandon() {
	if !w.kept {
		_ = w.file.Close()
		_ = os.Remove(w.file.Name())
	}
}
