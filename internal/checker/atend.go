package checker

import (
	"context"
	"testing"
	"time"
)

// AtEnd checks everything when the test ends.
func AtEnd(t testing.TB, db DB) {
	t.Cleanup(func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := CheckAll(ctx, db); err != nil {
			t.Error(err)
		}
	})
}
