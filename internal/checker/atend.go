package checker

import (
	"context"
	"testing"
	"time"
)

// atEndLimit bounds the check of all batches. It is generous: it decides only how
// long a failure takes.
const atEndLimit = 5 * time.Minute

// AtEnd checks everything when the test ends.
func AtEnd(t testing.TB, db DB) {
	t.Cleanup(func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), atEndLimit)
		defer cancel()
		if err := CheckAll(ctx, db); err != nil {
			t.Error(err)
		}
	})
}
