package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"fusillade/internal/batch"
)

// SessionCookie has the token of a session, which stands for the API key that it
// was begun with, on every route. Requests of other sites do not bear it, and are
// refused if they do.
const SessionCookie = "fusillade_session"

const sessionTokenBytes = 32

// BeginSession begins a session for who sends a valid API key, and returns its
// cookie. Only the token's hash is stored: sessions are known to all processes, and
// end with their key.
func (s *Server) BeginSession(r *http.Request, key string) (*http.Cookie, error) {
	if err := crossOrigin.Check(r); err != nil {
		return nil, errOtherOrigin
	}
	key = strings.TrimSpace(key)
	if len(key) != tokenLength || !strings.HasPrefix(key, tokenPrefix) {
		return nil, errWrongKey
	}
	var raw [sessionTokenBytes]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	token := base64.RawURLEncoding.EncodeToString(raw[:])
	err := s.cfg.Store.CreateSession(r.Context(), sha256.Sum256([]byte(token)), sha256.Sum256([]byte(key)), s.cfg.SessionTTL)
	if errors.Is(err, batch.ErrNotFound) {
		err = errWrongKey
	}
	if err != nil {
		return nil, err
	}
	return s.sessionCookie(r, token, s.cfg.SessionTTL), nil
}

// RenewSession has the session of a request go on, and returns its cookie anew; nil
// if more than half of its time is left.
func (s *Server) RenewSession(r *http.Request) *http.Cookie {
	token, hash, ok := sessionOf(r)
	if !ok {
		return nil
	}
	renewed, err := s.cfg.Store.RenewSession(r.Context(), hash, s.cfg.SessionTTL)
	if err != nil || !renewed {
		return nil
	}
	return s.sessionCookie(r, token, s.cfg.SessionTTL)
}

// EndSession ends the session of a request, and returns a cookie that removes its
// own.
func (s *Server) EndSession(r *http.Request) (*http.Cookie, error) {
	if err := crossOrigin.Check(r); err != nil {
		return nil, errOtherOrigin
	}
	if _, hash, ok := sessionOf(r); ok {
		if err := s.cfg.Store.EndSession(r.Context(), hash); err != nil {
			return nil, err
		}
	}
	return s.sessionCookie(r, "", -time.Second), nil
}

func (s *Server) sessionCookie(r *http.Request, token string, ttl time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: SessionCookie, Value: token, Path: "/", MaxAge: int(ttl / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// What a proxy says of the connection to it can only make this stricter.
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	}
}

// sessionOf returns the token of the session that a request bears, and its hash.
func sessionOf(r *http.Request) (token string, hash [32]byte, ok bool) {
	cookie, err := r.Cookie(SessionCookie)
	if err != nil || len(cookie.Value) != base64.RawURLEncoding.EncodedLen(sessionTokenBytes) {
		return "", hash, false
	}
	return cookie.Value, sha256.Sum256([]byte(cookie.Value)), true
}
