package consume

import (
	"context"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
)

// The key that a batch brought goes to no endpoint that is not authenticated.
func TestBatchKeyIsSentToAuthenticatedEndpoints(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		to        upstream.Target
		hasOwnKey bool
		want      string // the key that is sent
		reason    batch.Reason
	}{
		{"the environment's", upstream.Target{BaseURL: "http://env", APIKey: "shared"}, true, "own", ""},
		{"put into the database by anybody", upstream.Target{BaseURL: "http://evil", Unproven: "why"}, true, "", batch.CredentialUnavailable},
		{"the same, without a key", upstream.Target{BaseURL: "http://evil", Unproven: "why"}, false, "", ""},
	} {
		c := &Consumer{doing: t.Context(), cfg: Config{
			Resolve:  func(batch.Model) (upstream.Target, bool) { return test.to, true },
			BatchKey: func(context.Context, batch.ID, int) (string, error) { return "own", nil },
		}}
		var m made
		failed := c.resolve(&task{pool: &pool{c: c, account: new(slots.Account)}, start: postgres.Start{HasOwnKey: test.hasOwnKey}}, &m)
		switch {
		case failed == nil && (test.reason != "" || m.to.APIKey != test.want):
			t.Errorf("%s: the key %q is sent, want %q and reason %q", test.name, m.to.APIKey, test.want, test.reason)
		case failed != nil && failed.Reason != test.reason:
			t.Errorf("%s: %s: %s, want %q", test.name, failed.Reason, failed.Detail, test.reason)
		}
	}
}
