package upstream

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const versionPath = "/v1"

// joinURL appends a path to an endpoint. An endpoint without a path gets the
// whole of it; one with a path is taken as it is, in place of /v1, and loses an
// operation such as /chat/completions that was pasted with it. What
// servers have beside /v1 alone, /classify, /pooling and /v2/rerank, does not
// follow it. Whatever the path
// holds, the host stays the endpoint's: the key is meant for no other.
func joinURL(base, path string) (string, error) { return appendPath(base, path, true) }

// appendPath does the same; with a path that is not versioned the endpoint is
// taken as it is.
func appendPath(base, path string, versioned bool) (string, error) {
	base, _, _ = strings.Cut(base, "#")
	base, baseQuery, _ := strings.Cut(base, "?")
	path, _, _ = strings.Cut(path, "#")
	path, pathQuery, _ := strings.Cut(path, "?")

	scheme, rest, found := strings.Cut(base, "://")
	if !found || scheme == "" {
		return "", errors.New("base URL has no scheme: want http:// or https://")
	}
	if rest == "" || rest[0] == '/' {
		return "", errors.New("base URL has no host")
	}
	if path != "" {
		if path[0] != '/' {
			path = "/" + path
		}
		base = strings.TrimRight(base, "/")
		operation := ""
		if versioned {
			operation = pastedOperation(base)
			base = strings.TrimSuffix(base, operation)
		}
		switch {
		case !versioned:
		case path == "/classify", path == "/pooling", strings.HasPrefix(path, "/v2/"):
			base = strings.TrimSuffix(base, versionPath)
		case path != versionPath && !strings.HasPrefix(path, versionPath+"/"):
		case operation != "" || strings.Contains(base[len(scheme)+len("://"):], "/"):
			path = strings.TrimPrefix(path, versionPath)
		}
	}
	query := baseQuery
	if baseQuery != "" && pathQuery != "" {
		query += "&"
	}
	query += pathQuery
	if query == "" {
		return base + path, nil
	}
	return base + path + "?" + query, nil
}

// pastedOperation returns the operation that an endpoint's URL ends with; "":
// none.
func pastedOperation(base string) string {
	for _, kind := range answerKinds {
		if strings.HasSuffix(base, kind.path) {
			return kind.path
		}
	}
	return ""
}

// checkURL refuses what the transport would report like a broken connection,
// so that a request which can never be sent is not retried.
func checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("base URL's scheme is neither http nor https")
	}
	host := u.Hostname()
	if host == "" {
		return errors.New("base URL has no host")
	}
	if !validHost(host) {
		return errors.New("base URL's host is not a host name or IP address (international names: in punycode)")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("base URL's port is not within 1 to 65535")
		}
	}
	for i := range len(u.RawQuery) {
		if u.RawQuery[i] <= ' ' || u.RawQuery[i] == 0x7f {
			return errors.New("query holds a blank or control character")
		}
	}
	return nil
}

func validHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	for i := range len(host) {
		switch b := host[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '.', b == '-', b == '_':
		default:
			return false
		}
	}
	return true
}
