package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// The server sends a comment every 15 s on a stream of events that has none.
	eventIdleTimeout = 45 * time.Second
	maxEventLine     = 1 << 20
)

// errStreamEnded is returned when the server ended the stream before the batch
// finished, as it does when it is stopped.
var errStreamEnded = errors.New("the stream of events ended")

// Watch calls each with the batch, now and whenever its counts have changed,
// and returns it once it has ended. Before it takes up a stream that broke it
// calls broken with the reason. A first attempt that fails is an error, and
// so is what the server refuses.
func (c *Client) Watch(ctx context.Context, id string, each func(Batch), broken func(error)) (last Batch, err error) {
	pause := c.pause()
	for heard := false; ; {
		err := c.events(ctx, id, func(b Batch) {
			last, heard = b, true
			pause.Reset()
			each(b)
		})
		switch {
		case last.Ended():
			return last, nil
		case ctx.Err() != nil:
			return last, context.Cause(ctx)
		case Refused(err), !heard && !HasStatus(err, http.StatusServiceUnavailable):
			return last, err
		}
		broken(err)
		if err := pause.Wait(ctx); err != nil {
			return last, err
		}
	}
}

// events reads one stream to its end, which is always an error: a batch that
// has ended was given to each before.
func (c *Client) events(ctx context.Context, id string, each func(Batch)) error {
	resp, err := c.send(ctx, min(eventIdleTimeout, c.cfg.IdleTimeout), request{method: http.MethodGet, path: batchPath(id, "/events")})
	if err != nil {
		return err
	}
	defer resp.Close()
	lines := bufio.NewScanner(resp)
	lines.Buffer(nil, maxEventLine)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue // a name, a comment, or the end of an event: each has one line of data
		}
		b, err := read[Batch](json.RawMessage(strings.TrimSpace(data)), nil)
		if err != nil {
			return err
		}
		if each(b); b.Ended() {
			return nil
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errStreamEnded
}
