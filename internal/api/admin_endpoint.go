package api

import (
	"net/url"
	"slices"

	"fusillade/internal/control"
)

// endpointChange is what to change about a model's endpoint. The key and the values
// of headers are stored encrypted, and no answer holds them.
type endpointChange struct {
	URLs         []string          `json:"upstream_urls"`
	APIKey       *string           `json:"upstream_api_key"`
	Auth         *string           `json:"upstream_auth"`
	Headers      map[string]string `json:"upstream_headers"` // an empty value removes one
	NoHeaders    bool              `json:"no_upstream_headers"`
	Path         *string           `json:"upstream_path"`
	Model        *string           `json:"upstream_model"`
	Stream       *string           `json:"upstream_stream"` // on, off, default
	SendPriority *string           `json:"upstream_send_priority"`
	Default      bool              `json:"default_upstream"`
}

// given reports whether there is anything to change.
func (c *endpointChange) given() bool {
	return len(c.URLs) > 0 || c.APIKey != nil || c.Auth != nil || len(c.Headers) > 0 || c.NoHeaders || c.Path != nil || c.Model != nil || c.Stream != nil ||
		c.SendPriority != nil || c.Default
}

// attrs are what is changed, for the log: the members, and the hosts that calls go
// to, but nothing of what may be secret.
func (c *endpointChange) attrs() []any {
	var members, hosts []string
	for name, given := range map[string]bool{
		control.FieldURLs: len(c.URLs) > 0, control.FieldAPIKey: c.APIKey != nil, control.FieldAuth: c.Auth != nil, control.FieldHeaders: len(c.Headers) > 0,
		control.FieldNoHeaders: c.NoHeaders, control.FieldPath: c.Path != nil, control.FieldModel: c.Model != nil, control.FieldStream: c.Stream != nil,
		control.FieldSendPriority: c.SendPriority != nil, control.FieldDefault: c.Default,
	} {
		if given {
			members = append(members, name)
		}
	}
	for _, text := range c.URLs {
		if u, err := url.Parse(text); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	if len(members) == 0 {
		return nil
	}
	slices.Sort(members)
	return []any{"endpoint_changed", members, "endpoint_hosts", hosts}
}

func (c *endpointChange) parse() (control.ModelEndpoint, error) {
	if c.URLs != nil && len(c.URLs) == 0 {
		return control.ModelEndpoint{}, invalid(control.FieldURLs, codeInvalid, "%s must not be empty; %s makes calls go where the consumers' environment says.",
			control.FieldURLs, control.FieldDefault)
	}
	text := control.EndpointText{
		Default: c.Default, URLs: c.URLs, APIKey: c.APIKey, Auth: c.Auth, Path: c.Path, Model: c.Model, Stream: c.Stream, Priority: c.SendPriority,
		NoHeaders: c.NoHeaders, Headers: c.Headers,
	}
	return text.Parse()
}
