package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// What a server sees of a call to an endpoint that is not spoken to as OpenAI's.
func TestOptions(t *testing.T) {
	t.Parallel()
	type seen struct{ uri, headers string }
	got := make(chan seen, 1)
	watched := []string{"Authorization", "Api-Key", "X-Api-Key", "X-Token", "Anthropic-Version", "User-Agent", "Content-Type"}
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		var headers []string
		for _, name := range watched {
			if values, ok := r.Header[name]; ok {
				headers = append(headers, name+": "+strings.Join(values, "|"))
			}
		}
		got <- seen{r.URL.RequestURI(), strings.Join(headers, "\n")}
		_, _ = w.Write([]byte(answerOf))
	})
	client := newClient(t, Config{})
	const common = "User-Agent: fusillade\nContent-Type: application/json"
	const chat = "/v1/chat/completions"
	for name, test := range map[string]struct {
		base    string // after the server's URL
		user    *url.Userinfo
		key     string
		options endpoint.Options
		uri     string
		headers string
	}{
		"OpenAI":                          {key: "k", uri: chat, headers: "Authorization: Bearer k\n" + common},
		"api-key":                         {key: "k", options: endpoint.Options{Auth: endpoint.APIKey}, uri: chat, headers: "Api-Key: k\n" + common},
		"x-api-key":                       {key: "k", options: endpoint.Options{Auth: endpoint.XAPIKey}, uri: chat, headers: "X-Api-Key: k\n" + common},
		"basic":                           {key: "user:p:w", options: endpoint.Options{Auth: endpoint.Basic}, uri: chat, headers: "Authorization: Basic dXNlcjpwOnc=\n" + common},
		"none":                            {key: "k", options: endpoint.Options{Auth: endpoint.None}, uri: chat, headers: common},
		"none, with a user":               {user: url.UserPassword("u", "p"), options: endpoint.Options{Auth: endpoint.None}, uri: chat, headers: common},
		"a user":                          {user: url.UserPassword("u", "p"), uri: chat, headers: "Authorization: Basic dTpw\n" + common},
		"a header":                        {key: "k", options: endpoint.Options{Auth: "X-Token: Bearer {key}"}, uri: chat, headers: "X-Token: Bearer k\n" + common},
		"no key for a header":             {options: endpoint.Options{Auth: "X-Token: Bearer {key}"}, uri: chat, headers: common},
		"the key wins":                    {key: "k", options: endpoint.Options{Headers: endpoint.Headers{{Name: "Authorization", Value: "Custom x"}}}, uri: chat, headers: "Authorization: Bearer k\n" + common},
		"authorization":                   {options: endpoint.Options{Headers: endpoint.Headers{{Name: "Authorization", Value: "Custom x"}}}, uri: chat, headers: "Authorization: Custom x\n" + common},
		"headers":                         {key: "k", options: endpoint.Options{Auth: endpoint.XAPIKey, Headers: endpoint.Headers{{Name: "Anthropic-Version", Value: "2023-06-01"}, {Name: "User-Agent", Value: "me"}}}, uri: chat, headers: "X-Api-Key: k\nAnthropic-Version: 2023-06-01\nUser-Agent: me\nContent-Type: application/json"},
		"query":                           {base: "/openai/v1/?api-version=1&a=b", uri: "/openai/v1/chat/completions?api-version=1&a=b", headers: common},
		"Azure's deployments":             {base: "?api-version=1", options: endpoint.Options{Path: "/openai/deployments/{model}/{operation}"}, uri: "/openai/deployments/my-model/chat/completions?api-version=1", headers: common},
		"a path after a path":             {base: "/gateway/", options: endpoint.Options{Path: "/v1/{operation}"}, uri: "/gateway/v1/chat/completions", headers: common},
		"a path in place of a pasted one": {base: "/v1/chat/completions", options: endpoint.Options{Path: "/x"}, uri: "/v1/chat/completions/x", headers: common},
	} {
		request := chatRequest(base + test.base)
		request.Options, request.APIKey, request.Model = &test.options, test.key, "my-model"
		if test.user != nil {
			request.BaseURL = strings.Replace(request.BaseURL, "http://", "http://"+test.user.String()+"@", 1)
		}
		if outcome := client.Do(t.Context(), request); outcome.Reason != "" {
			t.Errorf("%s: %s: %s", name, outcome.Reason, outcome.Detail)
			continue
		}
		if diff := cmp.Diff(seen{test.uri, test.headers}, <-got, cmp.AllowUnexported(seen{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

const answerOf = `{"choices":[{"message":{"role":"assistant","content":"yes"}}]}`

// A model's name that a client chose leads to no other path of the host.
func TestModelInPath(t *testing.T) {
	t.Parallel()
	request := chatRequest("http://127.0.0.1:1/gateway")
	request.Model, request.Options = "../../admin", &endpoint.Options{Path: "/models/{model}/{operation}"}
	if got := newClient(t, Config{}).Do(t.Context(), request); got.Reason != batch.BuilderError {
		t.Errorf("%s: %s", got.Reason, got.Detail)
	}
}
