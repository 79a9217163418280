package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Server is how the HTTP API is offered, and to whom.
type Server struct {
	Listen            Address     `envconfig:"FUSILLADE_LISTEN_ADDR" default:"127.0.0.1:8080" allowed:"host:port such as :8080" desc:"address that the API listens on"`
	Auth              Auth        `envconfig:"FUSILLADE_API_AUTH" derived:"keys; none where LISTEN_ADDR is a loopback address" allowed:"keys or none" desc:"whether the API asks for keys, as fusillade keys makes them; none: everyone who can connect owns everything"`
	MaxActiveBatches  OptionalInt `envconfig:"FUSILLADE_MAX_ACTIVE_BATCHES" default:"1000" min:"1" max:"1000000000" unit:"batches" desc:"most batches of one owner in progress at once, unless its key says otherwise; none: any number"`
	MaxQueuedRequests OptionalInt `envconfig:"FUSILLADE_MAX_QUEUED_REQUESTS" default:"none" min:"1" max:"1000000000000" unit:"requests" desc:"most requests of one owner without a result, unless its key says otherwise; none: any number"`
	MaxFileRequests   int         `envconfig:"FUSILLADE_MAX_FILE_REQUESTS" default:"1000000" min:"1" max:"2000000000" unit:"requests" desc:"most requests in an uploaded file"`
	MaxFileBytes      int         `envconfig:"FUSILLADE_MAX_FILE_BYTES" default:"2147483648" min:"1" max:"1099511627776" unit:"bytes" desc:"largest uploaded file"`
	MaxRequestBytes   int         `envconfig:"FUSILLADE_MAX_REQUEST_BYTES" default:"10485760" min:"1" max:"536870912" unit:"bytes" desc:"longest line of an uploaded file"`
	MaxUploads        int         `envconfig:"FUSILLADE_MAX_UPLOADS" default:"4" min:"1" max:"1000" unit:"files" desc:"most files that one process reads at once; further uploads wait"`
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

// Loopback reports whether only this machine can connect.
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
