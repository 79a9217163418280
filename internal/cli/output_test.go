package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openInput(t *testing.T, path string) *Input {
	t.Helper()
	in, err := OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

func link(t *testing.T, how func(string, string) error, to, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := how(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// fill writes a line to each output.
func fill(t *testing.T, o *Outputs) {
	t.Helper()
	err := o.Fill(func(results, failures io.Writer) (bool, error) {
		_, err := io.WriteString(results, "good\n")
		if err == nil {
			_, err = io.WriteString(failures, "bad\n")
		}
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s has %q, %v, want %q", path, got, err, want)
	}
}

// An input is never an output, whatever name leads to it.
func TestInputIsNotOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := newFile(t, dir, "in.jsonl", "input")
	in := openInput(t, path)
	for name, output := range map[string]string{
		"the same path":   path,
		"another path":    filepath.Join(dir, "..", filepath.Base(dir), "in.jsonl"),
		"a symbolic link": link(t, os.Symlink, path, dir, "link.jsonl"),
		"a relative link": link(t, os.Symlink, "in.jsonl", dir, "relative.jsonl"),
		"a hard link":     link(t, os.Link, path, dir, "hard.jsonl"),
	} {
		for flag, paths := range map[string][2]string{
			"--output": {output, filepath.Join(dir, "other")}, "--errors": {filepath.Join(dir, "other"), output},
		} {
			if _, err := NewOutputs(new(Terminal), paths[0], paths[1], in); err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), "input") {
				t.Errorf("%s as %s: %v", name, flag, err)
			}
		}
	}
	derived := openInput(t, newFile(t, dir, "out.errors.jsonl", "input"))
	if _, err := NewOutputs(new(Terminal), filepath.Join(dir, "out.jsonl"), "", derived); err == nil {
		t.Error("the derived name of the errors file is the input")
	}

	// The name may come to lead to the input while the job runs.
	later := filepath.Join(dir, "later.jsonl")
	o, err := NewOutputs(new(Terminal), later, "", in)
	if err != nil {
		t.Fatal(err)
	}
	link(t, os.Link, path, dir, "later.jsonl")
	err = o.Fill(func(results, _ io.Writer) (bool, error) { return false, nil })
	if err == nil || !strings.Contains(err.Error(), "input") {
		t.Errorf("the input got the output's name, and: %v", err)
	}
	wantContent(t, path, "input")
	left, err := filepath.Glob(filepath.Join(dir, ".fusillade-*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOutputsAreTwoFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := newFile(t, dir, "out.jsonl", "")
	for name, paths := range map[string][2]string{
		"the same path":   {path, path},
		"a hard link":     {path, link(t, os.Link, path, dir, "hard.jsonl")},
		"a new file":      {filepath.Join(dir, "new"), filepath.Join(dir, ".", "new")},
		"a link to a new": {filepath.Join(dir, "new"), link(t, os.Symlink, "new", dir, "dangling")},
	} {
		if _, err := NewOutputs(new(Terminal), paths[0], paths[1]); err == nil || !strings.Contains(err.Error(), "same file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, output := range map[string]string{"a directory": dir, "no directory": filepath.Join(dir, "no", "out"), "a device": os.DevNull} {
		if _, err := NewOutputs(new(Terminal), output, ""); err == nil || !strings.Contains(err.Error(), "--output") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A symbolic link stays, and the file that it leads to is written.
func TestOutputFollowsLinks(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	old := newFile(t, elsewhere, "old", "old")
	for name, target := range map[string]string{"to-a-file": old, "to-nothing": filepath.Join(elsewhere, "new")} {
		path := link(t, os.Symlink, target, dir, name)
		o, err := NewOutputs(new(Terminal), path, "")
		if err != nil {
			t.Fatal(err)
		}
		fill(t, o)
		wantContent(t, target, "good\n")
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Errorf("%s leads to %q, %v", path, got, err)
		}
	}
	loop := link(t, os.Symlink, "loop", dir, "loop")
	if _, err := NewOutputs(new(Terminal), loop, ""); err == nil || !strings.Contains(err.Error(), "links") {
		t.Errorf("a loop: %v", err)
	}
}

func TestStandardOutput(t *testing.T) {
	t.Parallel()
	failures := filepath.Join(t.TempDir(), "failures")
	for name, tt := range map[string]struct{ output, errors, want string }{
		"both":             {"-", "", "good\nbad\n"},
		"both, named":      {"-", "-", "good\nbad\n"},
		"by its path":      {"/dev/stdout", "", "good\nbad\n"},
		"the results only": {"-", failures, "good\n"},
	} {
		var out bytes.Buffer
		o, err := NewOutputs(&Terminal{Out: &out}, tt.output, tt.errors)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, o)
		if out.String() != tt.want {
			t.Errorf("%s: %q, want %q", name, out.String(), tt.want)
		}
	}
	wantContent(t, failures, "bad\n")
	if _, err := os.Stat("-"); err == nil {
		t.Error("there is a file named -")
	}
}

// What fails leaves the file as it was.
func TestOutputIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := newFile(t, dir, "out", "old")
	o, err := NewOutputs(new(Terminal), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Fill(func(results, _ io.Writer) (bool, error) {
		_, _ = results.Write(bytes.Repeat([]byte("x"), 2*writerBytes))
		return false, io.ErrUnexpectedEOF
	}); err == nil {
		t.Error("no error")
	}
	wantContent(t, path, "old")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
