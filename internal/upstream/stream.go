package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// errBrokenStream is returned for a stream that ends before the answer does.
var errBrokenStream = errors.New("the stream of events ended before the answer did")

// errBadEvent is returned for an event that is not read.
var errBadEvent = errors.New("an event of the stream is not JSON")

// readStream reads an answer that was asked for as a stream, and folds its events
// into one object. What is no stream after all is returned as it is.
func readStream(ask streamAsk, resp *http.Response, limit int64, clock *streamClock) ([]byte, error) {
	source := io.Reader(resp.Body)
	encoded, err := decode(resp.Header, resp.Body)
	if err != nil {
		return nil, err
	}
	if encoded != nil {
		defer encoded.close()
		source = encoded
	}
	e := newEvents(source, limit)
	defer e.close()
	if !e.looksLikeStream() {
		clock.plain()
		return readUnknown(e.rest(), limit)
	}
	f := newFolder(ask)
	for {
		name, data, err := e.next()
		p, failure := nothing, []byte(nil)
		if err == nil {
			p, failure = fold(f, string(name), data)
		}
		if p == malformed && e.unended {
			err = io.EOF
		}
		switch {
		case errors.Is(err, errTooLarge), f.bytes() > limit:
			return nil, errTooLarge
		case err != nil && f.whole(): // its mark is missing, and nothing else
			return f.body(), nil
		case errors.Is(err, io.EOF):
			if chunks, ok := f.(*chunkFolder); ok && chunks.instead() != nil {
				return chunks.instead(), nil
			}
			return nil, errBrokenStream
		case err != nil:
			return nil, err
		case p == malformed:
			return nil, errBadEvent
		case p == failed:
			return bytes.Clone(failure), nil
		case p == ended:
			if !f.whole() && ask.kind == responseStream {
				return nil, errBrokenStream
			}
			clock.drain()
			_, _ = io.Copy(io.Discard, io.LimitReader(e.rest(), maxRest))
			return f.body(), nil
		case p != nothing:
			clock.note(p)
		}
	}
}
