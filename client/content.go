package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Lines is how far a file was read.
type Lines struct {
	Next       int64 // the offset, in lines, to go on from
	Incomplete bool  // the file may get more lines
}

// maxFailures is how often a transfer is taken up again without one more line.
const maxFailures = 5

// errWriting marks an error of the writer, which no other attempt mends.
type errWriting struct{ error }

func (e errWriting) Unwrap() error { return e.error }

// Content writes the lines of a file, from the given offset on, as they
// arrive. A transfer that breaks is taken up again, and each line is written
// once and whole. The result says how far it came, also with an error.
func (c *Client) Content(ctx context.Context, id string, offset int64, w io.Writer) (Lines, error) {
	at := Lines{Next: offset}
	pause := c.pause()
	for failures := 0; ; {
		before := at.Next
		err := c.content(ctx, id, &at, w)
		var writing errWriting
		switch {
		case err == nil:
			return at, nil
		case errors.As(err, &writing):
			return at, fmt.Errorf("writing line %d: %w", at.Next+1, writing.error)
		case ctx.Err() != nil || Refused(err):
			return at, err
		}
		if failures++; at.Next > before {
			failures = 0
			pause.Reset()
		}
		if failures == maxFailures {
			return at, fmt.Errorf("reading %s broke at line %d: %w", id, at.Next+1, err)
		}
		if err := pause.Wait(ctx); err != nil {
			return at, err
		}
	}
}

// content makes one attempt.
func (c *Client) content(ctx context.Context, id string, at *Lines, w io.Writer) error {
	resp, err := c.send(ctx, c.cfg.IdleTimeout, request{
		method: http.MethodGet, path: "/v1/files/" + url.PathEscape(id) + "/content",
		query: url.Values{"offset": {strconv.FormatInt(at.Next, 10)}},
	})
	if err != nil {
		return err
	}
	defer resp.Close()
	end, err := strconv.ParseInt(resp.Header.Get("X-Last-Line"), 10, 64)
	if err != nil {
		return &Error{Status: http.StatusNotImplemented, Message: "the server does not count lines: is this a fusillade server?"}
	}
	lines := &lineWriter{w: w, at: at}
	_, err = io.Copy(lines, resp)
	if err != nil {
		return err
	}
	if at.Next != end || len(lines.rest) > 0 {
		return fmt.Errorf("the transfer ended after line %d of %d", at.Next, end)
	}
	at.Incomplete = resp.Header.Get("X-Incomplete") == "true"
	return nil
}

// lineWriter passes on whole lines and counts them.
type lineWriter struct {
	w    io.Writer
	at   *Lines
	rest []byte // the line that has begun
}

func (l *lineWriter) Write(p []byte) (int, error) {
	last := bytes.LastIndexByte(p, '\n') + 1
	if last == 0 {
		l.rest = append(l.rest, p...)
		return len(p), nil
	}
	for _, part := range [][]byte{l.rest, p[:last]} {
		if len(part) == 0 {
			continue
		}
		if _, err := l.w.Write(part); err != nil {
			return 0, errWriting{err}
		}
	}
	l.at.Next += int64(bytes.Count(p[:last], []byte("\n")))
	l.rest = append(l.rest[:0], p[last:]...)
	return len(p), nil
}
