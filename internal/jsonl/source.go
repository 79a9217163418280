package jsonl

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash"
	"io"
)

// source reads a file, which may be compressed with gzip. What it decompresses
// to is bounded by those who read it.
type source struct {
	raw     io.Reader
	digest  hash.Hash // of every byte of raw
	rawErr  error     // how raw ended
	decoded io.Reader // nil: nothing was read yet
	gzip    bool
}

// formatError is returned for a file that is no text, whatever its lines.
type formatError struct{ text string }

func (e *formatError) Error() string { return e.text }

// magics are how compressed files begin that are not read.
var magics = []struct{ name, prefix string }{
	{"zstd", "\x28\xb5\x2f\xfd"}, {"bzip2", "BZh"}, {"xz", "\xfd7zXZ\x00"}, {"zip", "PK\x03\x04"},
}

const (
	gzipMagic = "\x1f\x8b"
	maxMagic  = 6
)

// Read returns what the file holds, decompressed. Its error is io.EOF, a
// *formatError, or that of the source, wrapped.
func (s *source) Read(p []byte) (int, error) {
	if s.decoded == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	n, err := s.decoded.Read(p)
	if err == nil || err == io.EOF || !s.gzip || s.failed() {
		return n, err
	}
	return n, damaged()
}

// open looks at how the file begins.
func (s *source) open() error {
	start := make([]byte, maxMagic)
	n, err := io.ReadFull((*rawSource)(s), start)
	if err != nil && s.failed() {
		return err
	}
	start = start[:n]
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.prefix)) {
			return &formatError{fmt.Sprintf("the file is compressed with %s; send it as plain text, or compressed with gzip", m.name)}
		}
	}
	s.gzip = bytes.HasPrefix(start, []byte(gzipMagic))
	s.decoded = io.MultiReader(bytes.NewReader(start), (*rawSource)(s))
	if !s.gzip {
		return nil
	}
	if s.decoded, err = gzip.NewReader(bufio.NewReaderSize(s.decoded, chunkBytes)); err == nil {
		return nil
	}
	if s.failed() {
		return s.rawErr
	}
	return damaged()
}

// failed reports whether the file could not be read to its end.
func (s *source) failed() bool { return s.rawErr != nil && !errors.Is(s.rawErr, io.EOF) }

func damaged() error {
	return &formatError{"the file is compressed with gzip, and is damaged or cut short"}
}

// rawSource is the file as it comes.
type rawSource source

func (s *rawSource) Read(p []byte) (int, error) {
	if s.rawErr != nil {
		return 0, s.rawErr
	}
	n, err := read(s.raw, p)
	s.digest.Write(p[:n])
	s.rawErr = err
	return n, err
}
