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

	"fusillade/internal/batch"
)

// diagnosis is what broke a call.
type diagnosis struct {
	// text is for operators: it names hosts and addresses. It goes by the error's
	// type and not by its text: net/http quotes what the upstream sent in some of
	// its texts, and what the upstream sent may be part of an answer.
	text string
	// cause names no host and no address, which owners of a shared cluster are not
	// to know.
	cause string
	// refusal is what keeps every call from the endpoint; empty: the network may be
	// to blame.
	refusal batch.RefusalCause
}

const brokenCause = "the connection broke, or the response is malformed"

// diagnose says what an error before the end of an answer means.
func diagnose(err error) diagnosis {
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
		return diagnosis{err.Error(), brokenCause, ""}
	case errors.As(err, &dns) && dns.IsNotFound:
		return diagnosis{"looking up " + dns.Name + ": " + dns.Err, "no such host", batch.CauseNoSuchHost}
	case dns != nil:
		return diagnosis{"looking up " + dns.Name + ": " + dns.Err, "the host name could not be looked up", ""}
	case errors.As(err, &cert):
		return diagnosis{cert.Error() + certificateRemedy(cert.Err), "untrusted certificate: " + certificateCause(cert.Err), batch.CauseBadCertificate}
	case errors.As(err, &record):
		return diagnosis{"upstream does not speak TLS; the endpoint may be http, not https", "the endpoint does not speak TLS", batch.CauseNoTLS}
	case errors.As(err, &alert):
		return diagnosis{alert.Error(), alert.Error(), ""}
	}
	at := ""
	if errors.As(err, &op) {
		at = where(op)
	}
	switch {
	case wantsCertificate(op):
		const wants = "the endpoint wants a client certificate"
		return diagnosis{at + op.Err.Error() + "; " + wants + " (FUSILLADE_UPSTREAM_CERT), or refuses the one that it was shown", wants + ", or refuses the one that it was shown", batch.CauseBadCertificate}
	case errors.As(err, &errno):
		return diagnosis{at + errno.Error(), errno.Error(), unreachable(errno)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return diagnosis{at + "upstream closed the connection", "the endpoint closed the connection", ""}
	case op != nil && op.Timeout():
		return diagnosis{at + "timed out", "connecting timed out", ""}
	case errors.As(err, &netErr) && netErr.Timeout():
		return diagnosis{at + "connecting timed out", "connecting timed out", ""}
	case op != nil && (op.Op == "remote error" || op.Op == "local error"): // a TLS alert
		return diagnosis{at + op.Err.Error(), brokenCause, ""}
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return diagnosis{at + fmt.Sprintf("connection broken or response malformed (%T)", err), brokenCause, ""}
}

// where begins the text of an error with what was being done, and with whom.
func where(op *net.OpError) string {
	if op.Addr == nil {
		return op.Op + ": "
	}
	return op.Op + " " + op.Addr.String() + ": "
}

// unreachable is the refusal of an endpoint that nothing gets to.
func unreachable(errno syscall.Errno) batch.RefusalCause {
	switch errno {
	case syscall.ECONNREFUSED:
		return batch.CauseConnectionRefused
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return batch.CauseUnreachable
	default:
		return ""
	}
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
func wantsCertificate(op *net.OpError) bool {
	return op != nil && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
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
