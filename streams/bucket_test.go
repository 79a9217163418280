package streams_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/streams"
)

func TestLostRace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("another"), false},
		{jetstream.ErrKeyNotFound, false},
		{jetstream.ErrKeyExists, true},
		{fmt.Errorf("writing: %w", jetstream.ErrKeyExists), true},
		{&jetstream.APIError{Code: 400, ErrorCode: 10164}, true}, // of a replicated bucket
		{&jetstream.APIError{Code: 503, ErrorCode: 10008}, false},
	} {
		if got := streams.LostRace(test.err); got != test.want {
			t.Errorf("%v: %t", test.err, got)
		}
	}
}
