package upstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// streamClock ends a call whose streamed answer does not come, or stops coming.
type streamClock struct {
	began  time.Time
	cfg    *Config
	cancel context.CancelCauseFunc
	comes  *atomic.Bool // set at each part; nil: nobody asks

	mu    sync.Mutex
	timer *time.Timer
	first time.Duration // from the begin of the call; 0: no part of the answer has come
	cause error
}

var (
	errNoFirstToken = errors.New("no first token")
	errStalled      = errors.New("stalled")
)

// watch returns a context for a call that asks for a stream, which ends when the
// first token is late, later ones are, or the whole takes too long.
func (k *streamClock) watch(ctx context.Context, cfg *Config) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeoutCause(ctx, cfg.StreamTimeout, errStreamTimeout)
	ctx, k.cancel = context.WithCancelCause(ctx)
	k.began, k.cfg, k.cause = time.Now(), cfg, errNoFirstToken
	k.timer = time.AfterFunc(cfg.FirstTokenTimeout, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.cancel(k.cause)
	})
	return ctx, func() {
		k.timer.Stop()
		stop()
		k.cancel(nil)
	}
}

// note restarts the clock at an event.
func (k *streamClock) note(p progress) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.first == 0 {
		if p != token {
			return
		}
		k.first, k.cause = max(time.Since(k.began), 1), errStalled
	}
	k.timer.Reset(k.cfg.StallTimeout)
	if k.comes != nil {
		k.comes.Store(true)
	}
}

// plain lets what is no stream take as long as any other answer.
func (k *streamClock) plain() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cause = errTimeout
	k.timer.Reset(max(k.cfg.Timeout-time.Since(k.began), 0))
}

func (k *streamClock) firstToken() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.first
}

// drain gives what follows the end of an answer a moment to come, so that the
// connection can be used again.
func (k *streamClock) drain() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer.Reset(drainTime)
}

// drainTime is how long a server has to end the response behind a stream's end.
const drainTime = 250 * time.Millisecond
