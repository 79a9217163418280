package api

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
)

// bodyReader returns a call's body, read from raw, without its Content-Encoding.
// Neither what comes nor what it decompresses to is more than limit bytes: then,
// and where it is not in the encoding that it says, reading fails with an error
// that fail translates.
func (c *call) bodyReader(raw io.Reader, limit int64) (io.Reader, error) {
	compressed, err := c.isGzip()
	if err != nil {
		return nil, err
	}
	body := http.MaxBytesReader(c.w, io.NopCloser(raw), limit)
	if !compressed {
		return body, nil
	}
	return http.MaxBytesReader(c.w, io.NopCloser(&gunzip{raw: body}), limit), nil
}

// isGzip reports whether the body is compressed.
func (c *call) isGzip() (bool, error) {
	var encodings []string
	for name := range strings.SplitSeq(strings.Join(c.Header.Values("Content-Encoding"), ","), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
			encodings = append(encodings, name)
		}
	}
	switch {
	case len(encodings) == 0:
		return false, nil
	case len(encodings) == 1 && (encodings[0] == "gzip" || encodings[0] == "x-gzip"):
		return true, nil
	}
	return false, &apiError{status: http.StatusUnsupportedMediaType, kind: invalidRequest, code: codeUnsupportedEncoding,
		message: "The Content-Encoding " + quote(strings.Join(encodings, ", ")) + " is not supported. Send the body as it is, or compressed with gzip."}
}

const codeUnsupportedEncoding = "unsupported_encoding"

var errDamagedGzip = invalid("", "invalid_encoding", "The body is compressed with gzip, as its Content-Encoding says, and is damaged or cut short.")

// gunzip reads what raw holds, in one member of gzip or several.
type gunzip struct {
	raw    io.Reader
	rawErr error // how raw ended
	body   *gzip.Reader
	err    error // that every further Read returns
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	if g.err != nil {
		return 0, g.err
	}
	if g.body == nil {
		g.body, err = gzip.NewReader((*gzipSource)(g))
	}
	if err == nil {
		n, err = g.body.Read(p)
		if err == nil || errors.Is(err, io.EOF) {
			g.err = err
			return n, err
		}
	}
	if g.err = errDamagedGzip; g.rawErr != nil && !errors.Is(g.rawErr, io.EOF) {
		g.err = g.rawErr
	}
	return n, g.err
}

// gzipSource is the body as it comes.
type gzipSource gunzip

func (s *gzipSource) Read(p []byte) (int, error) {
	n, err := s.raw.Read(p)
	s.rawErr = err
	return n, err
}
