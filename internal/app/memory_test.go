package app

import "testing"

func TestMemoryIsReleasedWhenQuiet(t *testing.T) {
	var m memory
	for i, step := range []struct {
		allocated uint64
		want      bool
	}{
		{1 << 20, false},                  // too little to be worth it
		{100 << 20, false},                // it works
		{101 << 20, true},                 // it has become quiet
		{102 << 20, false},                // and has released
		{103 << 20, false},                //
		{300 << 20, false},                // it works again
		{302 << 20, true},                 // and is quiet again
		{303 << 20, false},                // its polls
		{305 << 20, false},                //
		{306 << 20, true},                 // have left what is worth it
		{306<<20 + worthBytes - 1, false}, // a busy minute, by a little
	} {
		if got := m.quiet(step.allocated); got != step.want {
			t.Errorf("step %d, %d bytes allocated: released: %v, want %v", i, step.allocated, got, step.want)
		}
	}
}
