// Package testcluster is what tests of daemons stand on: a migrated database, a
// broker, connections to both, and a look at every row when the test is done.
// Each package's tests add the daemons and the endpoint that they are about;
// those that need only one of the two servers take a Database or a NATS.
package testcluster

import (
	"context"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// Two models, one of them with a name that is no token of NATS.
const (
	Model batch.Model = "meta-llama/Llama-3.1:8b instruct"
	Other batch.Model = "gpt-4.mini"
)

// Never is an interval, a timeout or a lease that does not end in a test.
const Never = time.Hour

// Cluster is a database and a broker of one test.
type Cluster struct {
	T testing.TB
	*Database
	*NATS
}

// New starts no daemon and makes no stream.
func New(t testing.TB) *Cluster {
	t.Helper()
	return &Cluster{T: t, Database: NewDatabase(t), NATS: NewNATS(t)}
}

// Go runs something until the end of the test or until stop returns, which may
// be called again. Its error fails the test.
func (c *Cluster) Go(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- run(ctx)
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.T.Error(err)
		}
	}
	c.T.Cleanup(stop)
	return stop
}
