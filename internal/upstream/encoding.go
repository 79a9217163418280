package upstream

import (
	"bufio"
	"bytes"
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

// undoers undo the encodings that are known, by their names.
var undoers = map[string]func(*decoded) (io.Reader, error){
	"gzip":    func(d *decoded) (io.Reader, error) { return gunzip(d.Reader) },
	"x-gzip":  func(d *decoded) (io.Reader, error) { return gunzip(d.Reader) },
	"deflate": func(d *decoded) (io.Reader, error) { return inflate(d.Reader) },
	"br":      func(d *decoded) (io.Reader, error) { return brotli.NewReader(d.Reader), nil },
	"zstd":    (*decoded).unzstd,
}

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
	for _, name := range encodings {
		if undoers[name] == nil {
			return nil, unknownEncoding{name}
		}
	}
	read := bufio.NewReader(transportReader{body})
	if isPlainText(read, encodings[len(encodings)-1]) {
		return &decoded{Reader: read, close: func() {}}, nil
	}
	d := &decoded{Reader: read, close: func() {}}
	for i := len(encodings) - 1; i >= 0; i-- { // the last was applied last
		if err := d.undo(encodings[i]); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

// isPlainText reports whether a body that should be encoded is not, as gateways send
// it that undo an encoding and leave its header. What begins with a brace is no
// object in any of the encodings; of those with a magic number a text is known by its
// begin.
func isPlainText(r *bufio.Reader, encoding string) bool {
	head, _ := r.Peek(len("data:"))
	if bytes.HasPrefix(head, []byte("{")) {
		return true
	}
	switch encoding {
	case "gzip", "x-gzip", "zstd":
		head = bytes.TrimLeft(bytes.TrimPrefix(head, byteOrderMark), " \t\r\n")
		return len(head) > 0 && bytes.IndexByte([]byte("{[<:"), head[0]) >= 0 || bytes.HasPrefix(head, []byte("data:"))
	}
	return false
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

// unzstd closes its decoder with the rest.
func (d *decoded) unzstd() (io.Reader, error) {
	z, err := zstd.NewReader(d.Reader, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	before := d.close
	d.close = func() { z.Close(); before() }
	return z, nil
}

// undo undoes an encoding that is known.
func (d *decoded) undo(encoding string) error {
	r, err := undoers[encoding](d)
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

// gunzip reads the members of gzip. What follows them and is none is left, as
// browsers and curl leave it: padding, or what a proxy has added.
func gunzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipMembers{z, b}, nil
}

type gzipMembers struct {
	member *gzip.Reader
	rest   *bufio.Reader
}

var gzipMagic = []byte("\x1f\x8b")

// Read implements io.Reader.
func (g *gzipMembers) Read(p []byte) (int, error) {
	n, err := g.member.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if head, err := g.rest.Peek(len(gzipMagic)); err != nil || !bytes.Equal(head, gzipMagic) {
		if isTransport(err) {
			return n, err
		}
		return n, io.EOF
	}
	if err := g.member.Reset(g.rest); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	g.member.Multistream(false)
	return n, nil
}

// inflate reads deflate with the frame of zlib, as the standard has it, or
// without, as some servers do; or gzip, which some call so.
func inflate(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(head, gzipMagic) {
		return gunzip(b)
	}
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}
