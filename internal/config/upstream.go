package config

import (
	"net/url"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// Upstream is where calls go, and how.
type Upstream struct {
	URL          HTTPURLs       `envconfig:"FUSILLADE_UPSTREAM_URL" allowed:"an http or https URL without a fragment, such as https://api.example.com/v1, or several separated by blanks or commas" desc:"model endpoint of models that have none of their own; a path in it stands in place of /v1, and a query is sent with every call; of several each call goes to the one with the fewest calls in flight"`
	APIKey       Secret         `envconfig:"FUSILLADE_UPSTREAM_API_KEY" allowed:"printable ASCII without blanks" desc:"API key of calls to UPSTREAM_URL whose batch and model have none of their own; not sent where that URL has a user and password, nor to endpoints of single models"`
	Auth         AuthScheme     `envconfig:"FUSILLADE_UPSTREAM_AUTH" derived:"bearer" allowed:"bearer, api-key, x-api-key, basic, none, or a header with {key} in it such as X-Token: Bearer {key}" desc:"how UPSTREAM_URL is given the API key, that of the server or of the batch: bearer, api-key, x-api-key, basic (the key is user:password), none, or a header such as X-Token: Bearer {key}"`
	Headers      UpstreamHeader `envconfig:"FUSILLADE_UPSTREAM_HEADERS" allowed:"name=value,… such as anthropic-version=2023-06-01, or JSON such as {\"HTTP-Referer\":\"https://example.com\"}" desc:"headers that are sent to UPSTREAM_URL with every call, as name=value,… or JSON"`
	Path         UpstreamPath   `envconfig:"FUSILLADE_UPSTREAM_PATH" allowed:"a path such as /openai/deployments/{model}/{operation}" desc:"what follows UPSTREAM_URL in place of the path of a request; {model} is the model's name, {operation} that path without /v1/, such as chat/completions"`
	Stream       Switch         `envconfig:"FUSILLADE_UPSTREAM_STREAM" derived:"off" allowed:"on or off" desc:"on: calls ask for a streamed answer also where the request does not, and fold it into one object; a model may say otherwise"`
	SendPriority Switch         `envconfig:"FUSILLADE_UPSTREAM_SEND_PRIORITY" derived:"off" allowed:"on or off" desc:"on: the priority in the body of a call is the deadline of its batch, in Unix seconds, for engines that serve the lowest first; a model may say otherwise"`
	Models       ModelUpstreams `envconfig:"FUSILLADE_MODEL_UPSTREAMS" allowed:"model=url,… with http or https URLs, or JSON such as {\"gpt-4\":\"https://api.example.com\"} or {\"gpt-4\":{\"url\":\"https://api.example.com\",\"auth\":\"api-key\"}}" desc:"endpoints of single models, as model=url,… or JSON, in which a model's value may be an object with url, api_key, auth, headers, path, model (its name there), stream and send_priority (on or off); without url: how UPSTREAM_URL is spoken to for this model"`
	Proxy        ProxyURL       `envconfig:"FUSILLADE_UPSTREAM_PROXY" derived:"HTTPS_PROXY, HTTP_PROXY and NO_PROXY" allowed:"an http, https or socks5 URL, or none" desc:"proxy of calls to model endpoints; none: direct connections"`
	UpstreamTLS
}

// For is the first URL of the model's endpoint, without a slash at its end;
// empty if there is none.
func (u *Upstream) For(model batch.Model) string { return u.urlsFor(model).Reveal() }

func (u *Upstream) urlsFor(model batch.Model) HTTPURLs {
	if own, ok := u.Models[model]; ok && own.URL.IsSet() {
		return own.URL
	}
	return u.URL
}

// isDefault reports whether the model's endpoint is UPSTREAM_URL.
func (u *Upstream) isDefault(model batch.Model) bool {
	return u.URL.IsSet() && slices.Equal(u.urlsFor(model).All(), u.URL.All())
}

// KeyFor is the API key for the endpoint that For returns; empty: none. The key
// is UPSTREAM_URL's: an endpoint of a single model may be somebody else's, and a
// URL with a user and password has its credentials in it.
func (u *Upstream) KeyFor(model batch.Model) string {
	if own, ok := u.Models[model]; ok && own.APIKey.IsSet() {
		return own.APIKey.Reveal()
	}
	if !u.isDefault(model) {
		return ""
	}
	for _, text := range u.URL.All() {
		if parsed, err := url.Parse(text); err != nil || parsed.User != nil {
			return ""
		}
	}
	return u.APIKey.Reveal()
}

// OptionsFor is how the endpoint that For returns wants to be spoken to; nil: as
// OpenAI's. AUTH, HEADERS and PATH are UPSTREAM_URL's, STREAM and
// SEND_PRIORITY are for all.
func (u *Upstream) OptionsFor(model batch.Model) *endpoint.Options {
	o := &endpoint.Options{}
	if urls := u.urlsFor(model).All(); len(urls) > 1 {
		o.More = urls[1:]
	}
	if u.isDefault(model) {
		o.Auth, o.Headers, o.Path = u.Auth.Auth, u.Headers.Reveal(), u.Path.Path
	}
	if own, ok := u.Models[model]; ok {
		o = o.With(own.options())
	}
	o = o.WithSwitches(u.Stream.Switch, u.SendPriority.Switch)
	if o.IsZero() {
		return nil
	}
	return o
}

// AuthScheme is endpoint.Auth.
type AuthScheme struct{ endpoint.Auth }

// Set takes what endpoint.ParseAuth does.
func (a *AuthScheme) Set(text string) (err error) {
	a.Auth, err = endpoint.ParseAuth(text)
	return err
}

// String returns the scheme or the header.
func (a AuthScheme) String() string { return string(a.Auth) }

// Switch is endpoint.Switch.
type Switch struct{ endpoint.Switch }

// Set takes what endpoint.ParseSwitch does.
func (s *Switch) Set(text string) (err error) {
	s.Switch, err = endpoint.ParseSwitch(text)
	return err
}

// String returns on or off; empty: neither.
func (s Switch) String() string { return string(s.Switch) }

// UpstreamPath is endpoint.Path.
type UpstreamPath struct{ endpoint.Path }

// Set takes what endpoint.ParsePath does.
func (p *UpstreamPath) Set(text string) (err error) {
	p.Path, err = endpoint.ParsePath(text)
	return err
}

// String returns the template.
func (p UpstreamPath) String() string { return string(p.Path) }

// UpstreamHeader is endpoint.Headers, of which only the names are shown.
type UpstreamHeader struct{ masked }

func (UpstreamHeader) secret() {}

// Set takes what endpoint.ParseHeaders does. Its errors repeat no value.
func (h *UpstreamHeader) Set(text string) error {
	headers, err := endpoint.ParseHeaders(text)
	if err != nil {
		return err
	}
	h.masked = masked{}
	if len(headers) > 0 {
		shown := make(endpoint.Headers, len(headers))
		for i := range headers {
			shown[i] = endpoint.Header{Name: headers[i].Name, Value: redacted}
		}
		h.masked = mask(headers.JSON(), shown.JSON())
	}
	return nil
}

// Reveal returns the headers with their values.
func (h UpstreamHeader) Reveal() endpoint.Headers {
	headers, err := endpoint.ParseHeaders(h.masked.Reveal())
	if err != nil {
		return nil // Set has read it
	}
	return headers
}
