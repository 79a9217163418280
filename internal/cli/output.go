package cli

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Output is a file that a command writes, or standard output. A file appears
// whole or not at all: it is written beside its place and renamed. A symbolic
// link is followed.
type Output struct {
	flag   string // that names it
	given  string
	path   string // where the link leads to, if it is one
	stdout io.Writer
	inputs []*Input // never to be overwritten
}

// NewOutput checks before any work is done whether the file can be written,
// and that it is none of the inputs. The path - is standard output.
func NewOutput(t *Terminal, flag, path string, inputs ...*Input) (*Output, error) {
	o := &Output{flag: flag, given: path, inputs: inputs}
	if path == "-" || path == "/dev/stdout" {
		o.given, o.stdout = "standard output", t.Out
		return o, nil
	}
	var err error
	if o.path, err = follow(path); err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	probe, err := o.Create()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	probe.Abandon()
	return o, nil
}

// String is how messages name the output.
func (o *Output) String() string { return o.given }

// IsStdout reports whether it is standard output.
func (o *Output) IsStdout() bool { return o.stdout != nil }

// Exists reports whether there is such a file.
func (o *Output) Exists() bool {
	_, err := os.Stat(o.path)
	return o.stdout == nil && err == nil
}

// Is reports whether both are one file.
func (o *Output) Is(other *Output) bool {
	if o.IsStdout() || other.IsStdout() {
		return o.IsStdout() && other.IsStdout()
	}
	if a, err := os.Stat(o.path); err == nil {
		b, err := os.Stat(other.path)
		return err == nil && os.SameFile(a, b)
	}
	a, aErr := os.Stat(filepath.Dir(o.path))
	b, bErr := os.Stat(filepath.Dir(other.path))
	return aErr == nil && bErr == nil && os.SameFile(a, b) && filepath.Base(o.path) == filepath.Base(other.path)
}

func (o *Output) check() error {
	info, err := os.Stat(o.path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s: %s is a directory", o.flag, o.given)
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s: %s is not a regular file; - is standard output", o.flag, o.given)
	}
	for _, in := range o.inputs {
		if err == nil && in.info != nil && os.SameFile(info, in.info) {
			return fmt.Errorf("%s: %s is the input file, which would be overwritten; give another name", o.flag, o.given)
		}
	}
	if _, err := os.Stat(filepath.Dir(o.path)); err != nil {
		return fmt.Errorf("%s: the directory of %s: %w", o.flag, o.given, err)
	}
	return nil
}

// maxLinks is how many symbolic links are followed, as in Linux.
const maxLinks = 40

// follow returns the path that symbolic links at its end lead to.
func follow(path string) (string, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	for range maxLinks { // it leads to what does not exist yet
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // not a link: what else is wrong shows when it is written
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", fmt.Errorf("%s: too many symbolic links", path)
}

// Writer takes what is written to an output.
type Writer struct {
	*bufio.Writer
	output *Output
	file   *os.File // nil: standard output
	kept   bool
}

const writerBytes = 1 << 20

// Create begins to write. The file has the permissions of the one that it
// replaces, or those that the umask leaves to a new file. Keep must be called
// for it to take its place, Abandon in any case.
func (o *Output) Create() (*Writer, error) {
	if o.stdout != nil {
		return &Writer{Writer: bufio.NewWriterSize(o.stdout, writerBytes), output: o}, nil
	}
	f, err := createBeside(o.path)
	if err != nil {
		return nil, o.failed(err)
	}
	w := &Writer{Writer: bufio.NewWriterSize(f, writerBytes), output: o, file: f}
	if old, err := os.Stat(o.path); err == nil {
		if err := f.Chmod(old.Mode().Perm()); err != nil {
			w.Abandon()
			return nil, o.failed(err)
		}
	}
	return w, nil
}

// failed says that the file cannot be written. What the system calls the temporary one
// beside it helps nobody.
func (o *Output) failed(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		err = of.Err
	}
	return fmt.Errorf("writing %s: %w", o, err)
}

// Write writes to the file as it will be.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = w.output.failed(err)
	}
	return n, err
}

// createBeside creates a file in the directory of path. (os.CreateTemp has
// permissions of its own, whatever the umask is.)
func createBeside(path string) (*os.File, error) {
	for {
		name := filepath.Join(filepath.Dir(path), ".fusillade-"+rand.Text())
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
}

// Keep has the file take its place. A crash before leaves the old file, and a
// temporary one beside it.
func (w *Writer) Keep() error {
	err := w.Flush()
	if w.file != nil {
		err = errors.Join(err, w.file.Sync(), w.file.Close())
		if err == nil {
			err = w.output.check() // the input may have got this name meanwhile
		}
		if err == nil {
			err = os.Rename(w.file.Name(), w.output.path)
		}
	}
	if err != nil {
		return w.output.failed(err)
	}
	w.kept = true
	return nil
}

// Abandon removes what was written, unless it was kept.
func (w *Writer) Abandon() {
	if !w.kept && w.file != nil {
		_ = w.file.Close()
		_ = os.Remove(w.file.Name())
	}
}
