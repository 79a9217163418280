package client

import (
	"context"
	"fmt"
	"io"
	"time"
)

// idleTimeout ends a context when the server does nothing for too long.
type idleTimeout struct {
	longest time.Duration
	timer   *time.Timer
	cancel  context.CancelCauseFunc
}

func withIdleTimeout(ctx context.Context, longest time.Duration) (context.Context, *idleTimeout) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := &idleTimeout{longest: longest, cancel: cancel}
	t.timer = time.AfterFunc(longest, func() { cancel(fmt.Errorf("the server did nothing for %v", longest)) })
	return ctx, t
}

// reset is called when the server did something.
func (t *idleTimeout) reset() { t.timer.Reset(t.longest) }

// end must be called, once nothing is waited for any more.
func (t *idleTimeout) end() {
	t.timer.Stop()
	t.cancel(context.Canceled)
}

// activityReader is a request's body: that the server takes some of it is
// activity.
type activityReader struct {
	io.Reader
	idle *idleTimeout
}

func (r *activityReader) Read(p []byte) (int, error) {
	r.idle.reset()
	return r.Reader.Read(p)
}
