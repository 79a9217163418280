// Package operator does what operators do in the database of a cluster or of
// a data directory: API keys, webhook endpoints,
// weights of owners, and the encryption of all secrets with a new key.
//
// Each operation is one durable write to Postgres. Where processes act on it,
// a hint on NATS follows; one that is lost, or that a crash between the two
// omits, costs what they take to look by themselves.
package operator

import (
	"time"

	"github.com/nats-io/nats.go"
)

// InputError is returned for what the operator can mend in the command.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

const hintTimeout = 10 * time.Second

// hint wakes the processes that listen on a subject.
func hint(conn *nats.Conn, subject string) {
	if conn.Publish(subject, nil) == nil {
		_ = conn.FlushTimeout(hintTimeout)
	}
}

const maxOwnerBytes = 256
