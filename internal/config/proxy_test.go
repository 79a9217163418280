package config

import (
	"net/url"
	"testing"
)

func TestProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("HTTPS_PROXY", "http://environment:3128")
	t.Setenv("NO_PROXY", "internal.example")
	for _, test := range []struct {
		setting, call, want string // an empty want: a direct connection
	}{
		{"", "https://api.example/v1", "http://environment:3128"},
		{"", "https://internal.example/v1", ""},
		{"", "http://api.example/v1", ""},
		{"none", "https://api.example/v1", ""},
		{"http://user:pass@proxy:3128", "https://internal.example/v1", "http://user:pass@proxy:3128"},
		{"socks5://proxy:1080", "http://api.example/v1", "socks5://proxy:1080"},
	} {
		var proxy ProxyURL
		if err := proxy.Set(test.setting); err != nil {
			t.Fatal(err)
		}
		call, err := url.Parse(test.call)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if through := proxy.For(); through != nil {
			u, err := through(call)
			if err != nil {
				t.Fatal(err)
			}
			if u != nil {
				got = u.String()
			}
		}
		if got != test.want {
			t.Errorf("UPSTREAM_PROXY %q: %s goes through %q, want %q", test.setting, test.call, got, test.want)
		}
	}
	for _, bad := range []string{"proxy:3128", "ftp://proxy", "http://", "NONE"} {
		if err := new(ProxyURL).Set(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
