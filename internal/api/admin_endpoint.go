package api

import "fusillade/internal/control"

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
