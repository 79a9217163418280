package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Input is the file of requests, or standard input.
type Input struct {
	// Name is what messages call it.
	Name string

	content io.ReadCloser
	info    os.FileInfo // nil: unknown
	file    *os.File    // nil for standard input and pipes, which can be read once only
}

// OpenInput opens a file, or standard input for -.
func OpenInput(path string) (*Input, error) {
	if path == "-" {
		info, _ := os.Stdin.Stat()
		return &Input{Name: "standard input", content: io.NopCloser(os.Stdin), info: info}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the input: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("the input: %w", err), f.Close())
	case info.IsDir():
		return nil, errors.Join(fmt.Errorf("%s is a directory; give a file of requests", path), f.Close())
	case !info.Mode().IsRegular():
		return &Input{Name: path, content: f, info: info}, nil
	}
	return &Input{Name: filepath.Base(path), content: f, info: info, file: f}, nil
}

// Close closes the file.
func (in *Input) Close() error { return in.content.Close() }

// Size is that of a regular file; -1: unknown.
func (in *Input) Size() int64 {
	if in.file == nil {
		return -1
	}
	return in.info.Size()
}

// Reader reads the input until ctx ends.
func (in *Input) Reader(ctx context.Context) io.Reader { return contextReader{ctx, in.content} }

// Sum hashes a regular file and rewinds it. False: it can be read once only.
func (in *Input) Sum(ctx context.Context) (digest [32]byte, ok bool, err error) {
	if in.file == nil {
		return digest, false, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, in.Reader(ctx)); err != nil {
		return digest, false, fmt.Errorf("reading %s: %w", in.Name, err)
	}
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return digest, false, fmt.Errorf("reading %s: %w", in.Name, err)
	}
	return [32]byte(h.Sum(nil)), true, nil
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
