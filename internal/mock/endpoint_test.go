package mock_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fusillade/internal/mock"
)

// With a certificate the endpoint is https, and speaks HTTP/2.
func TestListenTLS(t *testing.T) {
	t.Parallel()
	known := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	known.Close()
	endpoint, err := mock.Listen(t.Context(), "127.0.0.1:0", mock.Config{TLS: &tls.Config{Certificates: known.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := endpoint.Stop(); err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(known.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	resp, err := client.Post(endpoint.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Proto != "HTTP/2.0" {
		t.Errorf("it answered %s by %s", resp.Status, resp.Proto)
	}
}
