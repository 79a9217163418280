package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// describe says what broke a call. It goes by the error's type and not by its
// text: net/http quotes what the upstream sent in some of its texts, and what
// the upstream sent may be part of an answer.
func describe(err error) string {
	var (
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
		op     *net.OpError
		errno  syscall.Errno
		netErr net.Error
	)
	switch {
	case errors.Is(err, errBrokenStream):
		return err.Error()
	case errors.As(err, &dns):
		return fmt.Sprintf("looking up %s: %s", dns.Name, dns.Err)
	case errors.As(err, &cert):
		return cert.Error() + certificateRemedy(cert.Err)
	case errors.As(err, &record):
		return "upstream does not speak TLS; the endpoint may be http, not https"
	case errors.As(err, &alert):
		return alert.Error()
	case errors.As(err, &op):
		return describeOp(op)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "upstream closed the connection"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "connecting timed out"
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return fmt.Sprintf("connection broken or response malformed (%T)", err)
}

// causeOf says what broke a call without naming a host or an address, which
// owners of a shared cluster are not to know.
func causeOf(err error) string {
	var (
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
		errno  syscall.Errno
		netErr net.Error
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &dns):
		return "the host name could not be looked up"
	case errors.As(err, &cert):
		return "untrusted certificate: " + certificateCause(cert.Err)
	case errors.As(err, &record):
		return "the endpoint does not speak TLS"
	case errors.As(err, &alert):
		return alert.Error()
	case wantsCertificate(err):
		return "the endpoint wants a client certificate, or refuses the one that it was shown"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the endpoint closed the connection"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "connecting timed out"
	}
	return "the connection broke, or the response is malformed"
}

// certificateRemedy says what may help, after the cause.
func certificateRemedy(err error) string {
	if authority := (x509.UnknownAuthorityError{}); errors.As(err, &authority) {
		return " (FUSILLADE_UPSTREAM_CA names a file with further authorities)"
	}
	return ""
}

// wantsCertificate reports whether the endpoint ended a handshake because of the
// client's certificate. Package tls has its alerts as text only.
func wantsCertificate(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
}

func certificateCause(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "it is signed by an unknown authority"
	case errors.As(err, &host):
		return "it is for another host name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired or is not valid yet"
	}
	return "it cannot be verified"
}

func describeOp(op *net.OpError) string {
	where := op.Op
	if op.Addr != nil {
		where += " " + op.Addr.String()
	}
	var errno syscall.Errno
	switch {
	case errors.As(op.Err, &errno):
		return where + ": " + errno.Error()
	case op.Timeout():
		return where + ": timed out"
	case wantsCertificate(op):
		return where + ": " + op.Err.Error() + "; the endpoint wants a client certificate (FUSILLADE_UPSTREAM_CERT), or refuses the one that it was shown"
	case op.Op == "remote error", op.Op == "local error": // a TLS alert
		return where + ": " + op.Err.Error()
	}
	return where + ": " + describe(op.Err)
}

// isLocal reports whether this process or machine, and not the endpoint, is why
// a call could not be made: it has no file descriptors, ports or buffers left.
func isLocal(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	// Package net has the cause of a failed lookup as text only.
	var dns *net.DNSError
	return errors.As(err, &dns) && (strings.Contains(dns.Err, syscall.EMFILE.Error()) || strings.Contains(dns.Err, syscall.ENFILE.Error()))
}
