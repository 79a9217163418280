package streams_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/streams"
)

func TestCallTimes(t *testing.T) {
	t.Parallel()
	want := []streams.CallTime{{Model: "m", Owner: "a", Calls: 3, Slots: time.Second}, {Model: "\x00\U0001f680", Calls: 0, Slots: 1}}
	body, err := streams.EncodeCallTimes(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := streams.ParseCallTimes(body)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("ParseCallTimes(%s) = %v (-want +got):\n%s", body, err, diff)
	}
	for _, body := range []string{
		"", "{", `{"model":"m"}`, `[{"calls":1}]`, `[{"model":"m","calls":-1}]`, `[{"model":"m","slots_nanoseconds":-1}]`, `[{"model":1}]`,
	} {
		if got, err := streams.ParseCallTimes([]byte(body)); err == nil {
			t.Errorf("ParseCallTimes(%s) = %v, want an error", body, got)
		}
	}
}
