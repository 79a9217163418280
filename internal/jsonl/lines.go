package jsonl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

var (
	// errLineTooLong is returned for a line that was skipped; the next one can be
	// read.
	errLineTooLong = errors.New("line is longer than the limit")
	// errFileTooLarge is returned when nothing more is read.
	errFileTooLarge = errors.New("file is larger than the limit")
)

const (
	chunkBytes    = 256 << 10
	minChunkBytes = 4 << 10
	// headBytes of a line that is too long are kept to see what it is.
	headBytes   = 64 << 10
	maxNilReads = 100
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// maxTrimmed is the number of bytes that take may trim off a line: it is known
// to be too long only when it exceeds the limit by more.
const maxTrimmed = len("\xef\xbb\xbf\r")

// lines splits a source into lines. What it returns is never overwritten: a
// chunk that lines were taken from is left to the garbage collector when it is
// full, so that callers may keep them without a copy.
type lines struct {
	source  io.Reader
	maxLine int
	maxFile int64
	chunk   int // bytes of a new buffer
	// arrived, if set, is called when the source returned something. Its error is
	// taken for the source's.
	arrived func() error

	buf     []byte
	start   int  // of the line being read
	scanned int  // no line end in buf[start:scanned]
	end     int  // of what was read
	lent    bool // a returned line lies in buf

	bytes  int64  // read so far
	number int    // of the line returned last, 1-based
	head   []byte // of the line that was skipped last, without white space before it
	err    error  // why nothing more can be read
}

// next returns the next line without its line end. errLineTooLong concerns one
// line; every other error is final: io.EOF, errFileTooLarge, or the source's,
// wrapped.
func (l *lines) next() ([]byte, error) {
	skipping := false
	for {
		if i := bytes.IndexByte(l.buf[l.scanned:l.end], '\n'); i >= 0 {
			lineEnd := l.scanned + i
			line := l.buf[l.start:lineEnd]
			l.start, l.scanned = lineEnd+1, lineEnd+1
			return l.take(line, skipping)
		}
		l.scanned = l.end
		if !skipping && l.end-l.start > l.maxLine+maxTrimmed {
			skipping = true
			l.head = l.headOf(l.buf[l.start:l.end])
		}
		if skipping {
			l.start = l.end
		}
		if l.err == nil {
			l.fill()
			continue
		}
		if errors.Is(l.err, io.EOF) && (skipping || l.start < l.end) {
			line := l.buf[l.start:l.end]
			l.start = l.end
			return l.take(line, skipping)
		}
		return nil, l.err
	}
}

func (l *lines) take(line []byte, skipped bool) ([]byte, error) {
	// Line numbers are stored in 32 bits.
	if l.number == math.MaxInt32 {
		l.err = errFileTooLarge
		l.start, l.scanned = l.end, l.end
		return nil, l.err
	}
	l.number++
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if l.number == 1 {
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	if !skipped && len(line) > l.maxLine {
		l.head = l.headOf(line)
	}
	if skipped || len(line) > l.maxLine {
		return nil, errLineTooLong
	}
	l.lent = true
	return line, nil
}

// headOf copies the beginning of a line that is too long, the same however the
// line arrived.
func (l *lines) headOf(line []byte) []byte {
	line = bytes.TrimPrefix(line, byteOrderMark)
	return bytes.Clone(bytes.TrimLeft(line[:min(len(line), headBytes, l.maxLine)], " \t\r"))
}

// fill reads once from the source, or sets err.
func (l *lines) fill() {
	if l.bytes == l.maxFile {
		l.err = l.probe()
		return
	}
	l.makeRoom()
	room := l.buf[l.end:]
	if left := l.maxFile - l.bytes; left < int64(len(room)) {
		room = room[:left]
	}
	n, err := l.source.Read(room)
	l.end += n
	l.bytes += int64(n)
	if err == nil && l.arrived != nil {
		err = l.arrived()
	}
	l.err = err
}

// probe tells a file that ends at the limit from one that goes on.
func (l *lines) probe() error {
	var beyond [1]byte
	n, err := l.source.Read(beyond[:])
	if n > 0 {
		return errFileTooLarge
	}
	return err
}

// makeRoom leaves at least one byte free after end. The line being read is at
// most maxLine+maxTrimmed bytes long here: next skips a longer one.
func (l *lines) makeRoom() {
	pending := l.buf[l.start:l.end]
	switch {
	case len(pending) == 0 && !l.lent && len(l.buf) > 0:
		l.start, l.end = 0, 0
	case l.end == len(l.buf):
		l.buf = make([]byte, max(l.chunk, min(2*len(pending), l.maxLine+maxTrimmed+1)))
		l.start, l.end, l.lent = 0, copy(l.buf, pending), false
	}
	l.scanned = l.end
}

// read calls the source until it gives something: bytes, an error, or both.
func read(source io.Reader, p []byte) (int, error) {
	for range maxNilReads {
		n, err := source.Read(p)
		switch {
		case err == nil && n == 0:
			continue
		case err == nil || err == io.EOF:
			return n, err
		case errors.Is(err, io.EOF):
			// Callers take io.EOF for "all is well", which this is not.
			return n, fmt.Errorf("reading input: %w: %v", io.ErrUnexpectedEOF, err) //nolint:errorlint // it must not be found in the chain
		}
		return n, fmt.Errorf("reading input: %w", err)
	}
	return 0, fmt.Errorf("reading input: %w", io.ErrNoProgress)
}
