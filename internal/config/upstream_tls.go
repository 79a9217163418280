package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// UpstreamTLS is how https endpoints are trusted, and what they are shown.
type UpstreamTLS struct {
	CA    FilePath `envconfig:"FUSILLADE_UPSTREAM_CA" allowed:"a file of PEM certificates" desc:"file with certificate authorities that model endpoints may be signed by, besides the system's, PEM"`
	Cert  FilePath `envconfig:"FUSILLADE_UPSTREAM_CERT" allowed:"a file that can be read" desc:"file with the client certificate for model endpoints that ask for one, PEM; read again when it changes"`
	Key   FilePath `envconfig:"FUSILLADE_UPSTREAM_KEY" allowed:"a file that can be read" desc:"file with the key of UPSTREAM_CERT, PEM"`
	HTTP2 bool     `envconfig:"FUSILLADE_UPSTREAM_HTTP2" default:"true" allowed:"true or false" desc:"false: HTTP/1.1 also with https endpoints that speak HTTP/2"`
}

func (u *UpstreamTLS) check(p *problems) {
	p.relate(u.Cert != "" && u.Key == "", "UPSTREAM_CERT", "UPSTREAM_KEY", "needs %s, the key of the certificate", prefixed("UPSTREAM_KEY"))
	p.relate(u.Key != "" && u.Cert == "", "UPSTREAM_KEY", "UPSTREAM_CERT", "needs %s, the certificate of the key", prefixed("UPSTREAM_CERT"))
	if u.CA != "" && !p.bad["UPSTREAM_CA"] {
		if _, err := u.roots(); err != nil {
			p.add("UPSTREAM_CA", err.Error())
		}
	}
	if u.Cert != "" && u.Key != "" && !p.bad["UPSTREAM_CERT"] && !p.bad["UPSTREAM_KEY"] {
		if _, err := tls.LoadX509KeyPair(string(u.Cert), string(u.Key)); err != nil {
			p.add("UPSTREAM_CERT", fmt.Sprintf("and %s are no certificate and its key: %v", prefixed("UPSTREAM_KEY"), err))
		}
	}
}

const maxCABytes = 16 << 20

// roots are the system's authorities and those of the file.
func (u *UpstreamTLS) roots() (*x509.CertPool, error) {
	if u.CA == "" {
		return nil, nil
	}
	text, err := readBounded(string(u.CA), maxCABytes)
	if err != nil {
		return nil, fmt.Errorf("names a file that cannot be read: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(text)) {
		return nil, errors.New("names a file without a PEM certificate")
	}
	return pool, nil
}

// TLS is how https endpoints are called. Its errors name the variable.
func (u *UpstreamTLS) TLS() (*tls.Config, error) {
	roots, err := u.roots()
	if err != nil {
		return nil, fmt.Errorf("%s %w", prefixed("UPSTREAM_CA"), err)
	}
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if u.Cert != "" {
		cfg.GetClientCertificate = (&clientCertificate{cert: string(u.Cert), key: string(u.Key)}).get
	}
	return cfg, nil
}

// clientCertificate is read again when its files have changed, as those of a
// secret that is rotated. What cannot be read leaves the last one in force.
type clientCertificate struct {
	cert, key string

	mu   sync.Mutex
	last *tls.Certificate
	from [2]time.Time // when the files had changed last
}

func (c *clientCertificate) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var from [2]time.Time
	for i, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			from[i] = info.ModTime()
		}
	}
	if c.last != nil && from == c.from {
		return c.last, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		c.last, c.from = &pair, from
	}
	if c.last == nil {
		return nil, fmt.Errorf("%s cannot be used: %w", prefixed("UPSTREAM_CERT"), err)
	}
	return c.last, nil
}
