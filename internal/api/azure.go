package api

import (
	"net/http"
	"strings"
)

// azurePath is where AzureOpenAI's clients expect the API: /openai/files and the
// like, or /openai/v1/files.
const azurePath = "/openai"

// fromAzure returns the request as our own routes have it. What is not below
// azurePath is returned as it is.
func fromAzure(r *http.Request) *http.Request {
	rest, found := strings.CutPrefix(r.URL.Path, azurePath+"/")
	if !found {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = "/v1/"+strings.TrimPrefix(rest, "v1/"), ""
	own := *r
	own.URL = &u
	return &own
}

// keyOf returns the API key that a request carries: as a bearer token, or in the
// header of AzureOpenAI's clients. Empty: it has none.
func keyOf(r *http.Request) string {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "bearer") {
		return token
	}
	if r.Header.Get("Authorization") == "" {
		return r.Header.Get("Api-Key")
	}
	return ""
}

// isEndpoint reports whether a client means an endpoint of ours: AzureOpenAI's
// leave its /v1 out.
func isEndpoint(asked, own string) bool { return own == asked || own == "/v1"+asked }
