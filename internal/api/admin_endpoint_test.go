package api

import (
	"fmt"
	"strings"
	"testing"
)

// The log says which members of an endpoint were changed, and to which hosts calls
// go, and holds no secret.
func TestChangeOfAnEndpointIsLogged(t *testing.T) {
	t.Parallel()
	key, none := "sk-secret", modelChange{}
	change := modelChange{endpointChange: endpointChange{
		URLs: []string{"https://one.example:8443/v1?key=secret"}, APIKey: &key, Headers: map[string]string{"X-Token": "secret"},
	}}
	got := fmt.Sprint(change.attrs()...)
	for _, want := range []string{"upstream_urls", "upstream_api_key", "upstream_headers", "one.example:8443"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if strings.Contains(got, "secret") || len(none.attrs()) > 0 {
		t.Errorf("%s; of no change: %v", got, none.attrs())
	}
}
