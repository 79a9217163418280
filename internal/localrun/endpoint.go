package localrun

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// mockEndpoint is the built-in mock endpoint in words. (Its address changes
// with each run.)
const mockEndpoint = "mock"

// endpointOf returns in words where the calls of a file's requests go: one URL,
// or one for each model. Jobs are compared by it: answers of one endpoint are
// not those of another, and a prompt that was meant for one is not for another.
func (c *Config) endpointOf(ctx context.Context, store *postgres.Store, file batch.FileID) (string, error) {
	models, err := store.FileModels(ctx, file)
	if err != nil {
		return "", err
	}
	own, err := store.ModelUpstreams(ctx)
	if err != nil {
		return "", err
	}
	var distinct, byModel []string
	for _, model := range models {
		target := mockEndpoint
		if own[model].URL != "" {
			target = withoutUser(own[model].URL)
		} else if c.Mock == nil {
			target = withoutUser(c.Settings.Upstream.For(model))
		}
		if !slices.Contains(distinct, target) {
			distinct = append(distinct, target)
		}
		byModel = append(byModel, string(model)+"="+target)
	}
	if len(distinct) == 1 {
		return distinct[0], nil
	}
	return strings.Join(byModel, ", "), nil
}

// withoutUser is a URL without the credentials in it.
func withoutUser(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

const shownEndpointBytes = 100

// shownEndpoint is an endpoint as messages show it.
func shownEndpoint(endpoint string) string {
	switch {
	case endpoint == "":
		return "an endpoint that was not recorded"
	case endpoint == mockEndpoint:
		return "the mock endpoint"
	case len(endpoint) > shownEndpointBytes:
		return strings.ToValidUTF8(endpoint[:shownEndpointBytes], "") + "…"
	}
	return endpoint
}
