package daemon

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// OnSignals returns two contexts of parent: SIGTERM or SIGINT ends taking, a
// second one ends doing. stop releases what they use.
func OnSignals(parent context.Context) (taking, doing context.Context, stop func()) {
	doing, stopDoing := context.WithCancel(parent)
	taking, stopTaking := context.WithCancel(doing)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, end := range []func(){stopTaking, stopDoing} {
			select {
			case <-signals:
				end()
			case <-doing.Done():
				return
			}
		}
	}()
	return taking, doing, func() {
		signal.Stop(signals)
		stopDoing()
		<-ended
	}
}
