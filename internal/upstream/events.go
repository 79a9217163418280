package upstream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// eventBufferBytes is what a stream of events is read with.
const eventBufferBytes = 16 << 10

var eventBuffers = sync.Pool{New: func() any { b := make([]byte, eventBufferBytes); return &b }}

// events reads a stream of server-sent events, as the HTML standard describes
// them. A line, and the data of an event, may have limit bytes.
//
// What follows the last blank line is an event too: some servers end without
// one. Whether it is whole shows in its data.
type events struct {
	r     io.Reader
	limit int64

	buf      *[]byte
	from, to int  // what was read and not used yet
	afterCR  bool // a line feed that comes next belongs to the line before
	started  bool // what may have been a byte order mark is behind
	err      error

	name, data []byte
	unended    bool // the stream ended before the event did
}

func newEvents(r io.Reader, limit int64) *events {
	return &events{r: r, limit: limit, buf: eventBuffers.Get().(*[]byte)}
}

func (e *events) close() {
	if len(*e.buf) == eventBufferBytes {
		eventBuffers.Put(e.buf)
	}
	e.buf = nil
}

// looksLikeStream waits for the first bytes that are no space, and tells whether
// events begin there. Nothing is used up.
func (e *events) looksLikeStream() bool {
	for {
		begin := bytes.TrimLeft(bytes.TrimPrefix((*e.buf)[e.from:e.to], byteOrderMark), " \t\r\n")
		undecided := bytes.HasPrefix(byteOrderMark, begin)
		for _, field := range streamFields {
			undecided = undecided || strings.HasPrefix(field, string(begin))
		}
		if !undecided || e.err != nil || len(begin) >= len("event:") {
			return isStream("", begin)
		}
		e.fill()
		if e.to-e.from > maxRest && len(begin) == 0 {
			return true // blank lines, which keep the connection alive
		}
	}
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// rest is all that was not used.
func (e *events) rest() io.Reader {
	read := bytes.NewReader((*e.buf)[e.from:e.to])
	if e.err != nil {
		return io.MultiReader(read, failing{e.err})
	}
	return io.MultiReader(read, e.r)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// next returns the next event that has data. Both are valid until the next call.
// It returns io.EOF behind the last one, and errTooLarge.
func (e *events) next() (name, data []byte, err error) {
	e.name, e.data = e.name[:0], e.data[:0]
	hasData := false
	for {
		line, err := e.line()
		if err != nil && (!hasData || !errors.Is(err, io.EOF)) {
			return nil, nil, err
		}
		if err != nil || len(line) == 0 {
			if hasData {
				e.unended = err != nil
				return e.name, e.data, nil
			}
			e.name = e.name[:0]
			continue
		}
		field, value, _ := bytes.Cut(line, colon)
		value = bytes.TrimPrefix(value, space)
		switch string(field) {
		case "data":
			if hasData {
				e.data = append(e.data, '\n')
			}
			hasData = true
			e.data = append(e.data, value...)
			if int64(len(e.data)) > e.limit {
				return nil, nil, errTooLarge
			}
		case "event":
			e.name = append(e.name[:0], value...)
		}
	}
}

var colon, space = []byte(":"), []byte(" ")

// line returns the next line, without its end: CR, LF or both. At the end of the
// stream the last line comes with io.EOF, or none does.
func (e *events) line() ([]byte, error) {
	for searched := 0; ; {
		if e.afterCR && e.from < e.to {
			if (*e.buf)[e.from] == '\n' {
				e.from++
			}
			e.afterCR = false
		}
		read := (*e.buf)[e.from:e.to]
		if !e.started && (len(read) >= len(byteOrderMark) || e.err != nil) {
			e.started = true
			if bytes.HasPrefix(read, byteOrderMark) {
				e.from += len(byteOrderMark)
				read = read[len(byteOrderMark):]
			}
		}
		if e.started {
			if i := lineEnd(read[searched:]); i >= 0 {
				i += searched
				e.from += i + 1
				e.afterCR = read[i] == '\r'
				return read[:i], nil
			}
			searched = len(read)
		}
		if e.err != nil {
			e.from = e.to
			if errors.Is(e.err, io.EOF) && len(read) > 0 {
				return read, nil // its blank line is the end
			}
			return nil, e.err
		}
		if int64(len(read)) > e.limit {
			return nil, errTooLarge
		}
		e.fill()
	}
}

// lineEnd returns where the first CR or LF is; -1: nowhere.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// fill reads more, into a buffer that grows with the line it holds.
func (e *events) fill() {
	buf := *e.buf
	if e.from > 0 {
		e.to = copy(buf, buf[e.from:e.to])
		e.from = 0
	}
	if e.to == len(buf) {
		grown := make([]byte, 2*len(buf))
		copy(grown, buf)
		if len(buf) == eventBufferBytes {
			eventBuffers.Put(e.buf)
		}
		buf, e.buf = grown, &grown
	}
	// A reader may return neither bytes nor an error; io.Reader discourages it.
	for range 100 {
		n, err := e.r.Read(buf[e.to:])
		e.to += n
		if err != nil {
			e.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	e.err = io.ErrNoProgress
}
