package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"fusillade/internal/batch"
)

// caller is the owner that a request acts for.
type caller struct {
	owner     string
	allowance batch.Allowance
	admin     bool // an operator
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
	token := keyOf(r)
	if token == "" {
		return caller{}, unauthorized("You didn't provide an API key. Send it as Authorization: Bearer YOUR_KEY.")
	}
	wrong := unauthorized("Incorrect API key provided.")
	if len(token) != tokenLength || !strings.HasPrefix(token, tokenPrefix) {
		return caller{}, wrong
	}
	key, err := s.cfg.Store.FindAPIKey(r.Context(), sha256.Sum256([]byte(token)))
	if errors.Is(err, batch.ErrNotFound) {
		return caller{}, wrong
	}
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
	return caller{owner: key.Owner, allowance: allowance, admin: key.Admin}, nil
}
