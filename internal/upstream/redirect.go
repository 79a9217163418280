package upstream

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how many redirects one call follows.
const maxRedirects = 5

// redirect tells where a response sends the request, and whether it may go
// there: with its method and body (307, 308), and to the host that the key was
// meant for. From http to https the port may change: the certificate proves the
// host. problem says why the request is not sent on; nil and "": it is no
// redirect.
func redirect(resp *http.Response, from *url.URL) (to *url.URL, problem string) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, ""
	}
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, "without a target"
	}
	to, err := from.Parse(location)
	if err != nil || checkURL(to) != nil {
		return nil, "to what is no URL"
	}
	where := "to " + to.Scheme + "://" + to.Host // no path and query: they may hold secrets
	switch {
	case resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect:
		return nil, where + ", as a request without its body"
	case to.Scheme == from.Scheme && !strings.EqualFold(hostPort(to), hostPort(from)),
		to.Scheme != from.Scheme && (to.Scheme != "https" || !strings.EqualFold(to.Hostname(), from.Hostname())):
		return nil, where + ", which the request and its key are not meant for"
	}
	to.User, to.Fragment, to.RawFragment = nil, "", ""
	return to, where
}

// sentOn is the request, for another URL.
func sentOn(ctx context.Context, req *http.Request, to *url.URL, body []byte) (*http.Request, *exchange) {
	next := &http.Request{Method: req.Method, URL: to, Header: req.Header, Host: to.Host, Proto: req.Proto, ProtoMajor: req.ProtoMajor, ProtoMinor: req.ProtoMinor}
	ctx, x := follow(ctx, body)
	next = next.WithContext(ctx)
	x.setBody(next)
	return next, x
}

func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return u.Hostname() + ":" + port
}
