package batch_test

import (
	"testing"

	"fusillade/internal/batch"
)

func TestLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		least, most int
		auto        bool
	}{
		"1": {0, 1, false}, "37": {0, 37, false}, "1000000": {0, 1_000_000, false},
		"auto": {1, 1000, true}, "auto:4-200": {4, 200, true}, "auto:1-1": {1, 1, true}, "auto:1000000-1000000": {1_000_000, 1_000_000, true},
	} {
		l, err := batch.ParseLimit(text)
		least, most, auto := l.Auto()
		if err != nil || least != want.least || l.Most() != want.most || auto != want.auto || auto && most != want.most || l.String() != text {
			t.Errorf("%s: %v (%d to %d, auto %t), %v", text, l, least, most, auto, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "+1", "01", "1.0", "1000001", "auto:", "auto:4", "auto:0-4", "auto:5-4", "auto:4-1000001", "auto:4–200", "auto:a-b", "AUTO", "auto:1-2-3", " 1"} {
		if l, err := batch.ParseLimit(text); err == nil {
			t.Errorf("%q is read as %v", text, l)
		}
	}
	if batch.Limit(0).String() != "0" {
		t.Error("the zero value is spelled as a limit")
	}
}
