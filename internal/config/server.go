package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Server is how the HTTP API is offered, and to whom.
type Server struct {
	Listen                  Address      `envconfig:"FUSILLADE_LISTEN_ADDR" default:"127.0.0.1:8080" allowed:"host:port such as :8080" desc:"address that the API listens on"`
	Auth                    Auth         `envconfig:"FUSILLADE_API_AUTH" derived:"keys; none where LISTEN_ADDR is a loopback address" allowed:"keys or none" desc:"whether the API asks for keys, as fusillade keys makes them; none: everyone who can connect owns everything"`
	MaxActiveBatches        OptionalInt  `envconfig:"FUSILLADE_MAX_ACTIVE_BATCHES" default:"1000" min:"1" max:"1000000000" unit:"batches" desc:"most batches of one owner in progress at once, unless its key says otherwise; none: any number"`
	MaxQueuedRequests       OptionalInt  `envconfig:"FUSILLADE_MAX_QUEUED_REQUESTS" default:"none" min:"1" max:"1000000000000" unit:"requests" desc:"most requests of one owner without a result, unless its key says otherwise; none: any number"`
	MaxFileRequests         int          `envconfig:"FUSILLADE_MAX_FILE_REQUESTS" default:"1000000" min:"1" max:"2000000000" unit:"requests" desc:"most requests in an uploaded file"`
	MaxFileBytes            int          `envconfig:"FUSILLADE_MAX_FILE_BYTES" default:"2147483648" min:"1" max:"1099511627776" unit:"bytes" desc:"largest uploaded file"`
	MaxRequestBytes         int          `envconfig:"FUSILLADE_MAX_REQUEST_BYTES" default:"10485760" min:"1" max:"536870912" unit:"bytes" desc:"longest line of an uploaded file"`
	MaxUploads              int          `envconfig:"FUSILLADE_MAX_UPLOADS" default:"4" min:"1" max:"1000" unit:"files" desc:"most files that one process reads at once; further uploads wait"`
	MaxUploadsPerOwner      int          `envconfig:"FUSILLADE_MAX_UPLOADS_PER_OWNER" default:"2" min:"1" max:"1000" unit:"files" desc:"most of MAX_UPLOADS that one owner has at once, where the API asks for keys; further uploads wait"`
	MaxDownloadsPerOwner    int          `envconfig:"FUSILLADE_MAX_DOWNLOADS_PER_OWNER" default:"4" min:"1" max:"16" unit:"files" desc:"most of a process's 16 downloads that one owner has at once, where the API asks for keys; further downloads wait"`
	MaxEventStreamsPerOwner int          `envconfig:"FUSILLADE_MAX_EVENT_STREAMS_PER_OWNER" default:"64" min:"1" max:"256" unit:"streams" desc:"most of a process's 256 streams of events that one owner has at once, where the API asks for keys; further streams wait"`
	MaxModelsPerOwner       OptionalInt  `envconfig:"FUSILLADE_MAX_MODELS_PER_OWNER" default:"1000" min:"1" max:"1000000" unit:"models" desc:"most models that the files of one owner may name; none: any number"`
	MaxModels               OptionalInt  `envconfig:"FUSILLADE_MAX_MODELS" default:"10000" min:"1" max:"1000000" unit:"models" desc:"most models that the files of all owners may name; none: any number"`
	ModelsAllowed           Patterns     `envconfig:"FUSILLADE_MODELS_ALLOWED" allowed:"patterns separated by commas, with * and ?" desc:"models that a file may name, such as gpt-*,org/*; empty: any"`
	EndpointsAllowed        RequestPaths `envconfig:"FUSILLADE_ENDPOINTS_ALLOWED" derived:"all that docs/endpoints.md lists" allowed:"paths separated by commas, such as /v1/chat/completions,/v1/embeddings" desc:"url that a line of a file may have, in place of the default"`
	UploadTimeout           Milliseconds `envconfig:"FUSILLADE_UPLOAD_TIMEOUT_MS" default:"3600000" min:"1000" unit:"ms" desc:"longest that the upload of a file, of a part, or the completion of an upload may take"`
	ModelPrices             ModelPrices  `envconfig:"FUSILLADE_MODEL_PRICES" allowed:"model=price,… such as gpt-4o=2.50/10,text-embedding-*=0.02, or JSON such as {\"gpt-4o\":\"2.50/10\"}" desc:"what a million tokens cost, of prompts and of completions, in a currency of yours, as model=price,… or JSON; * and ? in a name stand for other characters; unset: no costs are shown, and no batch has a budget in money"`
	Hosts                   HostNames    `envconfig:"FUSILLADE_API_HOSTS" allowed:"host names, separated by commas; *.example.com is every name below" desc:"names that the Host header may have where the API asks for no keys, besides localhost, IP addresses and the name in LISTEN_ADDR"`
	UI                      bool         `envconfig:"FUSILLADE_UI_ENABLED" default:"true" allowed:"true or false" desc:"whether the API's address serves the dashboard, at /ui"`
	UISessionTTL            Milliseconds `envconfig:"FUSILLADE_UI_SESSION_TTL_MS" default:"3600000" min:"60000" max:"604800000" unit:"ms" desc:"how long someone who signed in to the dashboard stays so without looking at a page"`
}

func (s *Server) check(p *problems) {
	p.relate(s.Listen == "", "LISTEN_ADDR", "", "is empty: the API needs an address")
}

// NeedsKeys reports whether the API asks for keys.
func (s *Server) NeedsKeys() bool {
	if s.Auth == "" {
		return !s.Loopback()
	}
	return s.Auth == AuthKeys
}

// Loopback reports whether LISTEN_ADDR says that only this machine can connect.
func (s *Server) Loopback() bool {
	host, _, err := net.SplitHostPort(string(s.Listen))
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// HostNames are names of a server.
type HostNames []string

var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?$`)

// String returns the names, separated by commas.
func (h HostNames) String() string { return strings.Join(h, ",") }

// Set reads names separated by commas. The empty string is no name.
func (h *HostNames) Set(text string) error {
	*h = nil
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for i, name := range strings.Split(text, ",") {
		name = strings.TrimSpace(name)
		if !hostName.MatchString(name) {
			return fmt.Errorf("has the element %s, number %d, which is no host name", quote(name), i+1)
		}
		*h = append(*h, name)
	}
	return nil
}

// Patterns of names have * for any characters, and ? for one.
type Patterns []string

// String returns the patterns, separated by commas.
func (p Patterns) String() string { return strings.Join(p, ",") }

// maxPatternBytes is the longest name that a pattern could match.
const maxPatternBytes = 512

// Set reads patterns separated by commas. The empty string is no pattern.
func (p *Patterns) Set(text string) error {
	*p = nil
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for i, pattern := range strings.Split(text, ",") {
		pattern = strings.TrimSpace(pattern)
		switch {
		case pattern == "":
			return fmt.Errorf("has an empty element, number %d", i+1)
		case len(pattern) > maxPatternBytes:
			return fmt.Errorf("has an element of more than %d bytes, number %d", maxPatternBytes, i+1)
		}
		*p = append(*p, pattern)
	}
	return nil
}

// KnownHosts are the names that the Host header may have besides localhost and
// addresses.
func (s *Server) KnownHosts() []string {
	names := slices.Clone(s.Hosts)
	if host, _, err := net.SplitHostPort(string(s.Listen)); err == nil && host != "" {
		names = append(names, host)
	}
	return names
}

// Auth says who may use the API.
type Auth string

// The values of Auth.
const (
	AuthKeys Auth = "keys"
	AuthNone Auth = "none"
)

// Set reads keys or none. Empty: it depends on the address.
func (a *Auth) Set(text string) error {
	switch value := Auth(strings.ToLower(text)); value {
	case AuthKeys, AuthNone, "":
		*a = value
		return nil
	}
	return fmt.Errorf("is %s, which is neither keys nor none", quote(text))
}

// RequestPaths are paths of requests.
type RequestPaths []string

var requestPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

const maxRequestPathBytes = 128

// String returns the paths, separated by commas.
func (p RequestPaths) String() string { return strings.Join(p, ",") }

// Set reads paths separated by commas. The empty string is none.
func (p *RequestPaths) Set(text string) error {
	*p = nil
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for i, path := range strings.Split(text, ",") {
		path = strings.TrimSpace(path)
		switch {
		case !requestPath.MatchString(path) || len(path) > maxRequestPathBytes || strings.Contains(path, "/."):
			return fmt.Errorf("has the element %s, number %d, which is not a path such as /v1/embeddings", quote(path), i+1)
		case slices.Contains(*p, path):
			return fmt.Errorf("has the path %s twice", path)
		}
		*p = append(*p, path)
	}
	return nil
}
