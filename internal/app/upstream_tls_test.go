package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/upstream"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("authority", nil)
	return a
}

// sign writes NAME.pem and NAME.key; without a parent signed by itself.
func (a *authority) sign(name string, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: raw}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.path(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// An endpoint whose certificate a private authority signed, and which asks for a
// client certificate, is called with the right settings; what is missing is named.
func TestUpstreamTLS(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	a.sign("server", a.cert)
	a.sign("client", a.cert)
	stranger.sign("client", stranger.cert)
	pair, err := tls.LoadX509KeyPair(a.path("server.pem"), a.path("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	for _, http2 := range []bool{true, false} {
		var proto string
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			proto = r.Proto
			_, _ = io.WriteString(w, `{"choices":[{"message":{"role":"assistant","content":"yes"}}]}`)
		}))
		server.EnableHTTP2 = true
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
		server.StartTLS()
		t.Cleanup(server.Close)
		for name, test := range map[string]struct {
			settings config.UpstreamTLS
			detail   string // empty: it is called
		}{
			"all of it":             {config.UpstreamTLS{CA: config.FilePath(a.path("authority.pem")), Cert: config.FilePath(a.path("client.pem")), Key: config.FilePath(a.path("client.key"))}, ""},
			"unknown authority":     {config.UpstreamTLS{}, "signed by unknown authority (FUSILLADE_UPSTREAM_CA names a file with further authorities)"},
			"no client certificate": {config.UpstreamTLS{CA: config.FilePath(a.path("authority.pem"))}, "wants a client certificate (FUSILLADE_UPSTREAM_CERT)"},
			"a strange certificate": {config.UpstreamTLS{CA: config.FilePath(a.path("authority.pem")), Cert: config.FilePath(stranger.path("client.pem")), Key: config.FilePath(stranger.path("client.key"))}, "wants a client certificate (FUSILLADE_UPSTREAM_CERT), or refuses the one"},
		} {
			trust, err := test.settings.TLS()
			if err != nil {
				t.Fatal(err)
			}
			client, err := upstream.New(upstream.Config{Timeout: time.Minute, TLS: trust, NoHTTP2: !http2})
			if err != nil {
				t.Fatal(err)
			}
			var got upstream.Outcome
			// In TLS 1.3 a server refuses a certificate after the handshake: now and
			// then the connection's end is seen before its alert is read.
			for range 20 {
				got = client.Do(t.Context(), upstream.Request{
					ID: batch.RequestID{Line: 1}, Method: "POST", BaseURL: server.URL, Path: "/v1/chat/completions", Body: []byte(`{"model":"m"}`),
				})
				if got.Reason == "" || got.Refusal != nil {
					break
				}
			}
			client.Close()
			if (got.Reason == "") != (test.detail == "") || !strings.Contains(got.Detail, test.detail) {
				t.Errorf("%s, HTTP/2 %t: %s: %s, want %q", name, http2, got.Reason, got.Detail, test.detail)
			}
			if got.Reason != "" && (got.Refusal == nil || got.Refusal.Kind != batch.CauseBadCertificate) {
				t.Errorf("%s, HTTP/2 %t: refusal %+v", name, http2, got.Refusal)
			}
		}
		if (proto == "HTTP/2.0") != http2 {
			t.Errorf("spoken: %s, want HTTP/2: %t", proto, http2)
		}
	}
}

// A client certificate that is rotated is used without a restart, and one that
// cannot be read leaves the last in force.
func TestUpstreamCertIsReadAgain(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	first, _ := a.sign("client", a.cert)
	settings := config.UpstreamTLS{Cert: config.FilePath(a.path("client.pem")), Key: config.FilePath(a.path("client.key"))}
	trust, err := settings.TLS()
	if err != nil {
		t.Fatal(err)
	}
	shows := func(what string, want *x509.Certificate) {
		t.Helper()
		got, err := trust.GetClientCertificate(nil)
		if err != nil || got.Leaf == nil || got.Leaf.SerialNumber.Cmp(want.SerialNumber) != 0 {
			t.Errorf("%s: %v, want the other certificate", what, err)
		}
	}
	shows("at first", first)
	second, _ := a.sign("client", a.cert)
	later := time.Now().Add(time.Minute)
	for _, name := range []string{"client.pem", "client.key"} {
		if err := os.Chtimes(a.path(name), later, later); err != nil {
			t.Fatal(err)
		}
	}
	shows("after a rotation", second)
	if err := os.WriteFile(a.path("client.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shows("half written", second)
}
