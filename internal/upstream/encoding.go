package upstream

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxEncodings is how many encodings, one within the other, are undone.
	maxEncodings = 3
	// maxWindow is the most memory that one zstd decoder may ask for.
	maxWindow = 8 << 20
)

// errCorrupt is returned for a body that its encoding cannot be undone of.
var errCorrupt = errors.New("the body is not in the encoding that it says")

// unknownEncoding is an encoding that is not known.
type unknownEncoding struct{ name string }

func (e unknownEncoding) Error() string {
	return fmt.Sprintf("the encoding %q is not known", text(e.name, maxNameBytes))
}

// decoded reads a body without its Content-Encoding, which nobody asked for:
// proxies and gateways send it all the same.
type decoded struct {
	io.Reader
	close func()
}

// Read implements io.Reader. A decoder's errors are one of two: the body broke
// off, or it is not what it says.
func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	switch {
	case err == nil, err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF), isTransport(err):
		return n, err
	}
	return n, errCorrupt
}

// transportError is an error of the connection below a decoder.
type transportError struct{ error }

func (e transportError) Unwrap() error { return e.error }

func isTransport(err error) bool {
	var t transportError
	return errors.As(err, &t)
}

// transportReader marks the errors of the connection.
type transportReader struct{ io.Reader }

func (r transportReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = transportError{err}
	}
	return n, err
}

// decode undoes the encodings of a body; nil: it has none.
func decode(header http.Header, body io.Reader) (*decoded, error) {
	var encodings []string
	for name := range strings.SplitSeq(strings.Join(header.Values("Content-Encoding"), ","), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); !isIdentity(name) {
			encodings = append(encodings, name)
		}
	}
	if len(encodings) == 0 {
		return nil, nil
	}
	if len(encodings) > maxEncodings {
		return nil, unknownEncoding{strings.Join(encodings, ", ")}
	}
	d := &decoded{Reader: transportReader{body}, close: func() {}}
	for i := len(encodings) - 1; i >= 0; i-- { // the last was applied last
		if err := d.undo(encodings[i]); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

// isIdentity holds for what servers write in Content-Encoding for no encoding;
// some put the charset there.
func isIdentity(name string) bool {
	switch name {
	case "", "identity", "none", "utf-8", "utf8":
		return true
	}
	return false
}

func (d *decoded) undo(encoding string) error {
	var r io.Reader
	var err error
	switch encoding {
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(d.Reader)
	case "deflate":
		r, err = inflate(d.Reader)
	case "br":
		r = brotli.NewReader(d.Reader)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(d.Reader, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			before := d.close
			d.close = func() { z.Close(); before() }
			r = z
		}
	default:
		return unknownEncoding{encoding}
	}
	switch {
	case err == nil:
		d.Reader = r
		return nil
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.ErrUnexpectedEOF), isTransport(err):
		return err
	}
	return errCorrupt
}

// inflate reads deflate with the frame of zlib, as the standard has it, or
// without, as some servers do.
func inflate(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}
