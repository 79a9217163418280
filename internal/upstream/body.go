package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
)

// maxTrustedBytes is how much is allocated on the word of a Content-Length;
// beyond it memory grows with the bytes that arrive. Buffers that have grown
// beyond it are not pooled.
const maxTrustedBytes = 1 << 20

// maxRest is how much is read behind an encoded body.
const maxRest = 4 << 10

var errTooLarge = errors.New("response body is too large")

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readBody reads to the end, so that the connection can be used again, and
// undoes the body's encoding. It returns errTooLarge for a body of more than
// limit bytes, encoded or not, and stops there.
func readBody(method string, resp *http.Response, limit int64) ([]byte, error) {
	if method == http.MethodHead || resp.ContentLength == 0 {
		return nil, nil
	}
	encoded, err := decode(resp.Header, resp.Body)
	if err != nil {
		return nil, err
	}
	if encoded != nil {
		defer encoded.close()
		body, err := readUnknown(encoded, limit)
		if err == nil {
			// What follows the encoded body: the end, or a few bytes.
			_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRest))
		}
		return body, err
	}
	switch size := resp.ContentLength; {
	case size > limit:
		return nil, errTooLarge
	case size > 0 && size <= maxTrustedBytes:
		return readKnown(resp.Body, int(size))
	}
	return readUnknown(resp.Body, limit)
}

func readKnown(body io.Reader, size int) ([]byte, error) {
	// The byte too many lets the last read meet the end of the stream.
	buf, n := make([]byte, size+1), 0
	for n < len(buf) {
		read, err := body.Read(buf[n:])
		n += read
		if err == io.EOF && n == size {
			return buf[:size:size], nil
		}
		if err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errTooLarge
}

func readUnknown(body io.Reader, limit int64) ([]byte, error) {
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	_, err := buf.ReadFrom(io.LimitReader(body, limit+1))
	if err == nil && int64(buf.Len()) > limit {
		err = errTooLarge
	}
	if buf.Cap() > maxTrustedBytes {
		if err != nil {
			return nil, err
		}
		return buf.Bytes(), nil
	}
	defer buffers.Put(buf)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(buf.Bytes()), nil
}
