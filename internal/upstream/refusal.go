package upstream

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// Refusal says why an endpoint answers no request at all, or none with this
// credential or for this model: what comes next will end likewise until a
// person does something.
type Refusal struct {
	Status  int    // of the answer; 0: there was none
	Cause   string // safe to store and to log
	Message string // the endpoint's own words; empty: none. Part of an answer: for the owner's eyes only
}

const (
	maxErrorBody    = 64 << 10
	maxMessageBytes = 512
)

// refusalOf reads an answer that is no success; nil: it refuses only this
// request, or only now.
func refusalOf(status int, body []byte) *Refusal {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests:
	default:
		return nil
	}
	message, codes := readError(body)
	if status == http.StatusTooManyRequests && fatalReason(codes) == "" {
		return nil
	}
	return &Refusal{Status: status, Cause: fmt.Sprintf("status %d", status), Message: message}
}

// readError reads an error as OpenAI and those who follow it write it: an
// object or a text in "error", or the members of that object at the top.
func readError(body []byte) (message string, codes []string) {
	type members struct {
		Message json.RawMessage `json:"message"`
		Type    json.RawMessage `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	var answer struct {
		Error json.RawMessage `json:"error"`
		members
	}
	if len(body) > maxErrorBody || json.Unmarshal(body, &answer) != nil {
		return "", nil
	}
	m := answer.members
	if len(answer.Error) > 0 && json.Unmarshal(answer.Error, &m) != nil {
		m.Message = answer.Error
	}
	for _, raw := range []json.RawMessage{m.Type, m.Code} {
		var code string
		if json.Unmarshal(raw, &code) == nil {
			codes = append(codes, code)
		}
	}
	_ = json.Unmarshal(m.Message, &message)
	return strings.Join(strings.Fields(text(message, maxMessageBytes)), " "), codes
}

// unreachable returns the refusal of an error before any answer; nil: the
// network may be to blame.
func unreachable(err error) *Refusal {
	var (
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
	)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &cert) || errors.As(err, &record) {
		return &Refusal{Cause: detail(describe(err))}
	}
	return nil
}
