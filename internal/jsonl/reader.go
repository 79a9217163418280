package jsonl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"fusillade/internal/batch"
)

// Reader reads an input file. It is not safe for concurrent use.
type Reader struct {
	cfg       Config
	source    *source
	lines     lines
	parser    *parser
	customIDs *customIDs
	seen      int // lines that are not blank
	url       string
	urlLine   int // the first line with a known url, which is url
	mixed     bool
	summary   counts
	invalid   InvalidFileError
	alike     [faults]alike
	err       error // what Next returns from now on
}

// NewReader returns a Reader of a file, which may be compressed with gzip, or an
// error that names every bad field
// of cfg. Nothing is read before the first Next.
func NewReader(file io.Reader, cfg Config) (*Reader, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuring reader: %w", err)
	}
	if file == nil {
		return nil, errors.New("configuring reader: source is nil")
	}
	from := &source{raw: file, digest: sha256.New()}
	return &Reader{
		cfg:    cfg,
		source: from,
		lines: lines{
			source:  from,
			maxLine: cfg.MaxRequestBytes,
			maxFile: cfg.MaxFileBytes,
			chunk:   chunkFor(file),
		},
		parser:    newParser(cfg.Survey),
		customIDs: newCustomIDs(),
		summary:   counts{models: make(map[batch.Model]*batch.ModelDemand)},
	}, nil
}

// chunkFor is the size of a buffer for lines of the file: less than usual for one that
// is in memory and known to be small, with a byte in which its end is found.
func chunkFor(file io.Reader) int {
	if sized, ok := file.(interface{ Len() int }); ok {
		return min(max(sized.Len()+1, minChunkBytes), chunkBytes)
	}
	return chunkBytes
}

// Next returns the next request, until the first bad line; that call reads on
// to the end of the file, which takes as long as the source takes, and no
// request is returned after it. The error, which every further call repeats, is
//
//   - io.EOF itself when the whole file was read and is good;
//   - *InvalidFileError when it is not;
//   - else what the source returned, wrapped. It is never io.EOF.
//
// The template may be kept: its Body is not copied or overwritten, but shares
// a buffer with its neighbours, of at least 256 KiB unless the file is small, so a caller that keeps a few out
// of many should clone it. Appending to Body copies it.
func (r *Reader) Next() (batch.Template, error) {
	var format *formatError
	for r.err == nil {
		line, err := r.lines.next()
		switch {
		case errors.Is(err, errLineTooLong):
			if r.admit() && !r.isWhole(r.lines.head) {
				r.reject(&problem{code: CodeRequestTooLarge, text: fmt.Sprintf("longer than %d bytes", r.cfg.MaxRequestBytes)})
			}
		case errors.Is(err, errFileTooLarge):
			r.stop(r.lines.number+1, problem{code: CodeFileTooLarge, text: r.fileTooLarge()})
		case errors.Is(err, io.EOF):
			r.err = r.finish()
		case errors.As(err, &format):
			r.stop(r.lines.number+1, problem{code: CodeInvalidFormat, text: format.text})
		case err != nil:
			r.err = err
		case len(bytes.TrimLeft(line, " \t\r")) == 0:
		default:
			if template, ok := r.request(line); ok {
				if r.cfg.Survey != nil {
					r.cfg.Survey.Add(template)
				}
				return template, nil
			}
		}
	}
	return batch.Template{}, r.err
}

// Summary describes the file. It is complete once Next has returned io.EOF, and
// of no use after any other error.
func (r *Reader) Summary() batch.FileSummary {
	summary := r.summary.sorted()
	summary.Bytes = r.lines.bytes
	summary.SHA256 = [sha256.Size]byte(r.source.digest.Sum(nil))
	if !r.mixed {
		summary.Endpoint = r.url
	}
	if r.cfg.Survey != nil {
		summary.Survey = r.cfg.Survey.Survey()
	}
	return summary
}

// request reads a line that is not blank. It returns false when there is
// nothing to yield.
func (r *Reader) request(line []byte) (batch.Template, bool) {
	if !r.admit() {
		return batch.Template{}, false
	}
	if r.isWhole(line) {
		return batch.Template{}, false
	}
	f, bad := r.parser.parse(line)
	if bad != nil {
		r.refuse(line, bad)
		return batch.Template{}, false
	}
	template, bad := r.template(f)
	if bad != nil {
		r.reject(bad)
		return batch.Template{}, false
	}
	return template, r.invalid.Total == 0
}

// isWhole reports whether the beginning of a line shows that the whole file is
// no such file, and then stops the Reader.
func (r *Reader) isWhole(line []byte) bool {
	bad := wholeFile(line, r.seen == 1)
	if bad != nil {
		r.stop(r.lines.number, *bad)
	}
	return bad != nil
}

// refuse rejects a line that is no JSON object, or stops the Reader if all that
// follow will be none either.
func (r *Reader) refuse(line []byte, bad *problem) {
	if bad.fault == faultUnfinished {
		if whole := unfinished(line); whole != nil {
			r.stop(r.lines.number, *whole)
			return
		}
	}
	r.reject(bad)
}

// admit counts a line, and stops the Reader when it is one too many.
func (r *Reader) admit() bool {
	r.seen++
	if r.seen <= r.cfg.MaxRequests {
		return true
	}
	r.stop(r.lines.number, problem{code: CodeTooManyRequests, text: fmt.Sprintf("the file has more than %d requests; reading stopped here", r.cfg.MaxRequests)})
	return false
}

// alike are lines with the same fault.
type alike struct {
	first, index int // the line that stands for all, and where it is listed
	lines, last  int
}

// reject records a bad line, unless another one with the same fault stands for it.
func (r *Reader) reject(bad *problem) {
	same := &r.alike[bad.fault]
	if same.lines == 0 {
		same.first, same.index = r.lines.number, len(r.invalid.Lines)
	}
	if same.lines == 0 || bad.fault == faultOther {
		r.invalid.add(bad.at(r.lines.number), r.cfg.MaxListed)
	} else {
		r.invalid.Total++
	}
	same.lines++
	same.last = r.lines.number
}

// bad completes the error about the file.
func (r *Reader) bad() error {
	for _, same := range r.alike[faultOther+1:] {
		if same.lines < 2 || same.index >= len(r.invalid.Lines) {
			continue
		}
		if line := &r.invalid.Lines[same.index]; line.Line == same.first {
			line.Alike = same.lines - 1
			line.Message += fmt.Sprintf(" (so are %d lines, up to line %d)", same.lines, same.last)
		}
	}
	return &r.invalid
}

func (r *Reader) stop(line int, bad problem) {
	r.invalid.addStop(bad.at(line), r.cfg.MaxListed)
	r.err = r.bad()
}

func (r *Reader) finish() error {
	if r.seen == 0 && r.invalid.Total == 0 {
		r.invalid.add(problem{code: CodeEmptyFile, text: "the file has no request"}.at(0), r.cfg.MaxListed)
	}
	if r.invalid.Total > 0 {
		return r.bad()
	}
	return io.EOF
}

func (r *Reader) fileTooLarge() string {
	if r.lines.bytes < r.cfg.MaxFileBytes {
		return "the file has too many lines; reading stopped here"
	}
	if r.source.gzip {
		return fmt.Sprintf("the file is larger than %d bytes, decompressed; reading stopped here", r.cfg.MaxFileBytes)
	}
	return fmt.Sprintf("the file is larger than %d bytes; reading stopped here", r.cfg.MaxFileBytes)
}
