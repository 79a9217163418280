package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// caller is the owner that a request acts for.
type caller struct {
	owner     string
	allowance batch.Allowance
	admin     bool // an operator
	// everybody: the route is one of operators, who change everybody's batches.
	everybody bool
	key       string // id of the API key; empty: none is asked for
}

// scope is whose batches the caller may change; nil: everybody's.
func (c caller) scope() *string {
	if c.everybody {
		return nil
	}
	return &c.owner
}

const (
	tokenPrefix = "fsl-"
	tokenBytes  = 32
	tokenLength = len(tokenPrefix) + (tokenBytes*8+5)/6
	hintLength  = len(tokenPrefix) + 4
)

// NewToken makes the token of an API key. Only its hash is to be stored; the
// hint is how it begins.
func NewToken() (token, hint string, hash [32]byte) {
	var raw [tokenBytes]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	return token, token[:hintLength], sha256.Sum256([]byte(token))
}

// authenticate finds the caller by the request's key.
func (s *Server) authenticate(r *http.Request) (caller, error) {
	if s.cfg.Owner != "" {
		return caller{owner: s.cfg.Owner, allowance: s.cfg.Allowance, admin: true}, nil
	}
	key, err := s.findKey(r)
	if err != nil {
		return caller{}, err
	}
	allowance := s.cfg.Allowance
	if n := key.Allowance.ActiveBatches; n > 0 {
		allowance.ActiveBatches = n
	}
	if n := key.Allowance.QueuedRequests; n > 0 {
		allowance.QueuedRequests = n
	}
	return caller{owner: key.Owner, allowance: allowance, admin: key.Admin, key: key.ID}, nil
}

var (
	errWrongKey    = unauthorized("Incorrect API key provided.")
	errNoSession   = unauthorized("You are not signed in any more.")
	errOtherOrigin = forbidden("Requests from web pages of other origins are refused.")
)

// findKey finds the API key that a request bears, or whose session it is of.
func (s *Server) findKey(r *http.Request) (postgres.APIKey, error) {
	token := keyOf(r)
	_, session, signedIn := sessionOf(r)
	switch {
	case token == "" && signedIn:
		if err := crossOrigin.Check(r); err != nil {
			return postgres.APIKey{}, errOtherOrigin
		}
		key, err := s.cfg.Store.FindSession(r.Context(), session)
		if errors.Is(err, batch.ErrNotFound) {
			err = errNoSession
		}
		return key, err
	case token == "":
		return postgres.APIKey{}, unauthorized("You didn't provide an API key. Send it as Authorization: Bearer YOUR_KEY.")
	case len(token) != tokenLength || !strings.HasPrefix(token, tokenPrefix):
		return postgres.APIKey{}, errWrongKey
	}
	key, err := s.cfg.Store.FindAPIKey(r.Context(), sha256.Sum256([]byte(token)))
	if errors.Is(err, batch.ErrNotFound) {
		err = errWrongKey
	}
	return key, err
}
