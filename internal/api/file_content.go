package api

import (
	"context"
	"errors"
	"math"
	"mime"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

// The headers of a file's content. With offset=X-Last-Line the next request
// goes on where the response ended; X-Incomplete says whether there are more
// lines, or may be later.
const (
	headerLastLine   = "X-Last-Line"
	headerIncomplete = "X-Incomplete"
)

const linesPage = 1000

// lineSource appends the next lines of a file, at most n, to dst and says how
// many they are; 0: there are no more.
type lineSource func(ctx context.Context, dst []byte, n int) ([]byte, int, error)

// content is a file that is about to be sent.
type content struct {
	filename string
	lines    int64 // that it has by now
	growing  bool
	source   func(offset int64) lineSource
}

// contentParams name a file, and lines of it.
type contentParams struct {
	fileParams
	offset, limit int64
}

func (p *contentParams) read(in *input) {
	p.fileParams.read(in)
	p.offset, p.limit = in.number("offset", 0, 0, math.MaxInt32), in.number("limit", math.MaxInt32, 1, math.MaxInt32)
}

// fileContent sends the lines of a file from offset on, at most limit.
func (s *Server) fileContent(c *call, p contentParams) error {
	leave, err := s.downloads.enter(c.Context(), c.owner)
	if err != nil {
		return err
	}
	defer leave()
	file, err := s.open(c.Context(), c.caller, p.ref)
	if err != nil {
		return err
	}
	end := max(p.offset, min(p.offset+p.limit, file.lines))
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file.filename}))
	h.Set("Cache-Control", "no-store")
	h.Set(headerLastLine, strconv.FormatInt(end, 10))
	h.Set(headerIncomplete, strconv.FormatBool(file.growing || end < file.lines))
	if c.Method == http.MethodHead || end == p.offset {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	return s.send(c, file.source(p.offset), end-p.offset)
}

// open finds the file that the path names.
func (s *Server) open(ctx context.Context, who caller, ref fileRef) (content, error) {
	if ref.result != nil {
		b, err := s.resultBatch(ctx, who, *ref.result)
		return content{
			filename: resultFilename(*ref.result), lines: resultLines(*ref.result, b), growing: !b.Status.Terminal(),
			source: func(offset int64) lineSource {
				return resultSource(s.cfg.Store, *ref.result, offset)
			},
		}, err
	}
	f, err := s.cfg.Store.GetFile(ctx, who.owner, ref.input)
	return content{
		filename: f.Filename, lines: int64(f.Requests),
		source: func(offset int64) lineSource { return inputSource(s.cfg.Store, f.ID, offset) },
	}, err
}

// errShort is returned when lines that were there a moment ago are gone, because
// their batch was rerun or deleted.
var errShort = errors.New("the file has become shorter")

// send streams the given number of lines. An error before the first line is
// returned; a later one breaks the connection, so that no client takes what it
// has for the whole.
func (s *Server) send(c *call, source lineSource, lines int64) error {
	w := s.pacedWriter(c.w)
	var buffer []byte
	for sent := int64(0); sent < lines; {
		var n int
		var err error
		buffer, n, err = source(c.Context(), buffer[:0], int(min(lines-sent, linesPage)))
		if err == nil && n == 0 {
			err = errShort
		}
		if err != nil && sent == 0 {
			return err
		}
		if err == nil {
			_, err = w.Write(buffer)
		} else if c.Context().Err() == nil {
			s.cfg.Log.Warn("a download was broken off", "request_id", c.w.Header().Get(headerRequestID), "err", err)
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		sent += int64(n)
	}
	return nil
}

// inputSource makes the lines of an input file again.
func inputSource(store *postgres.Store, id batch.FileID, offset int64) lineSource {
	after := int32(0)
	return func(ctx context.Context, dst []byte, n int) ([]byte, int, error) {
		lines, err := store.FileLines(ctx, id, after, offset, n)
		for _, t := range lines {
			dst = appendTemplate(dst, t)
			after = t.Line
		}
		offset = 0
		return dst, len(lines), err
	}
}

// appendTemplate appends a line of an input file. The body is as it was given;
// it holds no line end, for it stood on one line.
func appendTemplate(dst []byte, t batch.Template) []byte {
	dst = append(dst, `{"custom_id":`...)
	dst, _ = jsontext.AppendQuote(dst, t.CustomID) // was valid UTF-8 when it was stored
	dst = append(dst, `,"method":`...)
	dst, _ = jsontext.AppendQuote(dst, t.Method)
	dst = append(dst, `,"url":`...)
	dst, _ = jsontext.AppendQuote(dst, t.Path)
	dst = append(dst, `,"body":`...)
	dst = append(dst, t.Body...)
	return append(dst, "}\n"...)
}

// resultSource reads an output or error file in the order that results were
// committed in.
func resultSource(store *postgres.Store, f batch.ResultFile, offset int64) lineSource {
	read, appendLine := store.CompletedLines, jsonl.AppendOutputLine
	if f.Errors {
		read, appendLine = store.OtherLines, jsonl.AppendErrorLine
	}
	var seq int64
	return func(ctx context.Context, dst []byte, n int) ([]byte, int, error) {
		results, err := read(ctx, f.Batch, seq, offset, n)
		for _, r := range results {
			dst = appendLine(dst, r)
			seq = r.Seq + 1
		}
		offset = 0
		return dst, len(results), err
	}
}
