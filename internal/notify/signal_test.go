package notify

import (
	"testing"
	"testing/synctest"
)

func TestNotificationsAreOne(t *testing.T) {
	t.Parallel()
	s := New()
	for range 3 {
		s.Notify()
	}
	<-s.C()
	select {
	case <-s.C():
		t.Error("three notifications before the wait woke twice, want once")
	default:
	}
	s.Notify()
	<-s.C() // a notification after the wait wakes again
}

func TestNotifyWakesWhoeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New()
		woken := make(chan struct{})
		go func() {
			<-s.C()
			close(woken)
		}()
		synctest.Wait()
		s.Notify()
		<-woken
	})
}
