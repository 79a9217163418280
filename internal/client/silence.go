package client

import (
	"context"
	"fmt"
	"io"
	"time"
)

// silence ends a context when nothing was heard for too long.
type silence struct {
	longest time.Duration
	timer   *time.Timer
	cancel  context.CancelCauseFunc
}

func newSilence(ctx context.Context, longest time.Duration) (context.Context, *silence) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &silence{longest: longest, cancel: cancel}
	s.timer = time.AfterFunc(longest, func() { cancel(fmt.Errorf("the server was silent for %v", longest)) })
	return ctx, s
}

// broken says that something was heard.
func (s *silence) broken() { s.timer.Reset(s.longest) }

// end must be called, once nothing is waited for any more.
func (s *silence) end() {
	s.timer.Stop()
	s.cancel(context.Canceled)
}

// audible is a body whose being read breaks the silence.
type audible struct {
	io.Reader
	silence *silence
}

func (a *audible) Read(p []byte) (int, error) {
	a.silence.broken()
	return a.Reader.Read(p)
}
