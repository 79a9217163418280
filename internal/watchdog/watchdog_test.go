package watchdog

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(time.Minute)
		want := func(names ...string) {
			t.Helper()
			if got := d.Stuck(); !slices.Equal(got, names) {
				t.Errorf("stuck are %v, want %v", got, names)
			}
		}
		a, b, c := d.Loop("a"), d.Loop("b"), d.Step("c")
		a.Busy()
		<-time.After(time.Minute - time.Nanosecond)
		want()
		a.Busy() // it has moved on
		<-time.After(time.Nanosecond)
		want("c")
		b.Busy()
		<-time.After(time.Minute)
		want("a", "b", "c")
		a.Idle()
		c.End()
		want("b")
		again := d.Step("b")
		<-time.After(time.Hour)
		want("b")
		b.End()
		want("b")
		again.End()
		want()
	})
}

func TestNobodyWatches(t *testing.T) {
	t.Parallel()
	var d *Watchdog
	l := d.Step("x")
	l.Busy()
	l.Idle()
	l.End()
	if got := d.Stuck(); got != nil {
		t.Errorf("stuck are %v", got)
	}
}
