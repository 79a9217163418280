//go:build failpoint && unix

package failpoint

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse("calling:5:kill:20ms")
	if err != nil || o.point != Calling || o.at != 5 || o.action != "kill" || o.delay != 20*time.Millisecond {
		t.Errorf("%+v, %v", o, err)
	}
	for text, want := range map[string]string{
		"calling": "want point:hit", "calling:0:kill": "no number from 1", "calling:x:kill": "no number from 1",
		"calling:1:burn": "not kill, stop or delay", "calling:1:kill:soon": "duration", "a:1:kill:1s:b": "want point:hit",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
