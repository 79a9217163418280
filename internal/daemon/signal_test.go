package daemon_test

import (
	"os"
	"syscall"
	"testing"

	"fusillade/internal/daemon"
)

// The only test that signals the process, so it may run beside the others.
func TestOnSignals(t *testing.T) {
	t.Parallel()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	taking, doing, stop := daemon.OnSignals(t.Context())
	defer stop()
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-taking.Done()
	if doing.Err() != nil {
		t.Fatal("the first signal ended what was being done")
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-doing.Done()

	taking, doing, stop = daemon.OnSignals(t.Context())
	stop()
	if taking.Err() == nil || doing.Err() == nil {
		t.Error("stop leaves contexts open")
	}
}
