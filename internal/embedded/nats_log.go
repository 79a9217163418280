package embedded

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// natsLog passes a NATS server's messages on. Notices are routine (each start
// writes a dozen), so they are Debug.
type natsLog struct {
	log *slog.Logger
	// started is set when the server has started: from then on nobody is left
	// to return an error to.
	started atomic.Bool
	// fatal is the message of a server that could not start. The server leaves
	// it to its logger to end the process; this one keeps it for the caller.
	fatal atomic.Pointer[string]
}

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *natsLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *natsLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *natsLog) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }

func (l *natsLog) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	if l.started.Load() {
		l.log.Error(message)
	}
	l.fatal.Store(&message)
}
