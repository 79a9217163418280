package upstream

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// What servers in the field answer that is neither an answer nor an error as OpenAI
// writes them; said is what kind of server does.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	const chat, messages, responses, embeddings = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"
	const ok = `{"choices":[{"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}`
	for _, test := range []struct {
		said, path string
		status     int
		body       string
		want       batch.Reason
	}{
		{"FastAPI: detail as text", chat, 200, `{"detail":"Internal Server Error"}`, batch.MalformedAnswer},
		{"FastAPI: detail as an object", chat, 200, `{"detail":{"error":"overloaded"}}`, batch.MalformedAnswer},
		{"FastAPI: not found", chat, 404, `{"detail":"Not Found"}`, batch.NotFound},
		{"FastAPI: validation", chat, 422, `{"detail":[{"loc":["body","messages"],"msg":"Field required","type":"missing"}]}`, batch.NonRetriableHTTPStatus},
		{"vLLM: object error", chat, 200, `{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}`, batch.NonRetriableErrorBody},
		{"vLLM: object error of the server", chat, 200, `{"object":"error","message":"EngineDeadError","type":"InternalServerError","param":null,"code":500}`, batch.RetriableErrorBody},
		{"vLLM: model not there", chat, 404, `{"error":{"message":"The model x does not exist.","type":"NotFoundError","param":"model","code":404}}`, batch.NotFound},
		{"vLLM: engine is dead", chat, 500, `{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}`, batch.RetriableHTTPStatus},
		{"vLLM: reasoning and no content", chat, 200, `{"choices":[{"message":{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[]},"finish_reason":"length"}]}`, ""},
		{"vLLM: prompt_logprobs beside", chat, 200, `{"prompt_logprobs":null,"kv_transfer_params":null,"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"stop_reason":null}]}`, ""},
		{"SGLang: error as text", chat, 200, `{"error":"The request queue is full."}`, batch.RetriableErrorBody},
		{"SGLang: abort", chat, 200, `{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"abort"}]}`, batch.RetriableErrorBody},
		{"vLLM: aborted in a restart", "/v1/completions", 200, `{"choices":[{"index":0,"text":"par","finish_reason":"abort"}]}`, batch.RetriableErrorBody},
		{"llama.cpp: loading", chat, 503, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`, batch.RetriableHTTPStatus},
		{"llama.cpp: context", chat, 400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":900}}`, batch.NonRetriableHTTPStatus},
		{"llama.cpp: timings beside", chat, 200, `{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"x"}}],"timings":{"prompt_n":1}}`, ""},
		{"Ollama: its own shape", chat, 200, `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"x"},"done":true}`, batch.MalformedAnswer},
		{"Ollama: busy", chat, 503, `{"error":{"message":"server busy, please try again. maximum pending requests exceeded","type":"api_error","param":null,"code":null}}`, batch.RetriableHTTPStatus},
		{"Ollama: not pulled", chat, 404, `{"error":{"message":"model \"x\" not found, try pulling it first","type":"not_found_error","param":null,"code":null}}`, batch.NotFound},
		{"FastChat: context", chat, 200, `{"object":"error","message":"too long","code":40303}`, batch.NonRetriableErrorBody},
		{"FastChat: rate", chat, 200, `{"object":"error","message":"slow","code":42901}`, batch.RetriableErrorBody},
		{"FastChat: out of memory", chat, 200, `{"object":"error","message":"NETWORK ERROR DUE TO HIGH TRAFFIC","code":50002}`, batch.RetriableErrorBody},
		{"TGI: overloaded", chat, 429, `{"error":"Model is overloaded","error_type":"overloaded"}`, batch.RetriableHTTPStatus},
		{"TGI: error and type", chat, 200, `{"error":"Request failed during generation","error_type":"generation"}`, batch.RetriableErrorBody},
		{"TGI: validation", chat, 422, `{"error":"Input validation error: inputs must have less than 1024 tokens","error_type":"validation"}`, batch.NonRetriableHTTPStatus},
		{"TGI: validation under 200", chat, 200, `{"error":"Input validation error","error_type":"validation"}`, batch.NonRetriableErrorBody},
		{"LiteLLM: budget", chat, 400, `{"error":{"message":"Budget has been exceeded!","type":"budget_exceeded","param":null,"code":"400"}}`, batch.QuotaExhausted},
		{"LiteLLM: cooldown", chat, 429, `{"error":{"message":"No deployments available for selected model","type":"None","param":"None","code":"429"}}`, batch.RetriableHTTPStatus},
		{"LiteLLM: type None", chat, 200, `{"error":{"message":"x","type":"None","param":"None","code":"500"}}`, batch.RetriableErrorBody},
		{"OpenRouter: error under 200", chat, 200, `{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"x"}},"user_id":"u"}`, batch.RetriableErrorBody},
		{"OpenRouter: no credit", chat, 200, `{"error":{"message":"Insufficient credits","code":402}}`, batch.NonRetriableErrorBody},
		{"OpenRouter: no credit, 402", chat, 402, `{"error":{"message":"Insufficient credits","code":402}}`, batch.NonRetriableHTTPStatus},
		{"OpenRouter: moderation", chat, 403, `{"error":{"code":403,"message":"flagged","metadata":{"reasons":["x"],"flagged_input":"y"}}}`, batch.NonRetriableHTTPStatus},
		{"OpenRouter: error in a choice", chat, 200, `{"choices":[{"error":{"code":502,"message":"x"},"finish_reason":"error","native_finish_reason":"error","message":{"role":"assistant","content":""}}]}`, batch.RetriableErrorBody},
		{"OpenRouter: blanks while it works", chat, 200, "\n         \n\n         \n" + ok, ""},
		{"OpenRouter: comments while it works", chat, 200, ": OPENROUTER PROCESSING\n\n" + ok, batch.UnexpectedStream},
		{"Azure: filtered prompt", chat, 400, `{"error":{"message":"The response was filtered","param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, batch.NonRetriableHTTPStatus},
		{"Azure: filtered answer", chat, 200, `{"choices":[{"finish_reason":"content_filter","index":0,"content_filter_results":{"hate":{"filtered":true}},"message":{"role":"assistant"}}],"prompt_filter_results":[]}`, ""},
		{"Azure: deployment", chat, 404, `{"error":{"code":"DeploymentNotFound","message":"x"}}`, batch.ModelNotFound},
		{"Azure: wrong version", chat, 404, `{"error":{"code":"404","message":"Resource not found"}}`, batch.NotFound},
		{"Azure: full", chat, 429, `{"error":{"code":"429","message":"Requests have exceeded call rate limit."}}`, batch.RetriableHTTPStatus},
		{"API Management: 200 with a status", chat, 200, `{"statusCode":429,"message":"Rate limit is exceeded. Try again in 3 seconds."}`, batch.RetriableErrorBody},
		{"Anthropic: overloaded", messages, 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, batch.RetriableHTTPStatus},
		{"Anthropic: overloaded under 200", messages, 200, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}`, batch.RetriableErrorBody},
		{"Anthropic: too large", messages, 413, `{"type":"error","error":{"type":"request_too_large","message":"x"}}`, batch.NonRetriableHTTPStatus},
		{"Anthropic: credit", messages, 400, `{"type":"error","error":{"type":"billing_error","message":"Your credit balance is too low"}}`, batch.QuotaExhausted},
		{"Anthropic: refusal", messages, 200, `{"type":"message","role":"assistant","content":[],"stop_reason":"refusal","usage":{"input_tokens":1,"output_tokens":1}}`, ""},
		{"Anthropic: pause_turn", messages, 200, `{"type":"message","role":"assistant","content":[{"type":"text","text":"x"}],"stop_reason":"pause_turn"}`, ""},
		{"Anthropic: thinking", messages, 200, `{"type":"message","content":[{"type":"thinking","thinking":"x","signature":"s"}],"stop_reason":"max_tokens"}`, ""},
		{"Anthropic: content null", messages, 200, `{"type":"message","content":null,"stop_reason":"end_turn"}`, batch.MalformedAnswer},
		{"Anthropic: content as text", messages, 200, `{"type":"message","content":"x"}`, batch.MalformedAnswer},
		{"OpenAI: refusal", chat, 200, `{"choices":[{"message":{"role":"assistant","content":null,"refusal":"I can't"},"finish_reason":"stop"}]}`, ""},
		{"OpenAI: audio", chat, 200, `{"choices":[{"message":{"role":"assistant","content":null,"audio":{"id":"a","data":"AAAA"}},"finish_reason":"stop"}]}`, ""},
		{"OpenAI: function_call", chat, 200, `{"choices":[{"message":{"role":"assistant","content":null,"function_call":{"name":"f","arguments":""}},"finish_reason":"function_call"}]}`, ""},
		{"OpenAI: response cut at max_output_tokens", responses, 200, `{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"message"}],"error":null}`, batch.ResponseIncomplete},
		{"OpenAI: response filtered", responses, 200, `{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[],"error":null}`, batch.ResponseIncomplete},
		{"OpenAI: response failed, server", responses, 200, `{"status":"failed","error":{"code":"server_error","message":"x"},"output":[]}`, batch.RetriableErrorBody},
		{"OpenAI: response failed, limit", responses, 200, `{"status":"failed","error":{"code":"rate_limit_exceeded","message":"x"},"output":[]}`, batch.RetriableErrorBody},
		{"OpenAI: response failed, image", responses, 200, `{"status":"failed","error":{"code":"invalid_image","message":"x"},"output":[]}`, batch.ResponseFailed},
		{"OpenAI: response cancelled", responses, 200, `{"status":"cancelled","output":[],"error":null}`, batch.ResponseFailed},
		{"OpenAI: response in the background", responses, 200, `{"status":"queued","background":true,"output":[],"error":null}`, batch.ResponseUnfinished},
		{"Gemini: list with an error", chat, 429, `[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED"}}]`, batch.RetriableHTTPStatus},
		{"Gemini: list with an error under 200", chat, 200, `[{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}]`, batch.RetriableErrorBody},
		{"Bedrock: message alone", chat, 200, `{"message":"Too many requests, please wait before trying again."}`, batch.MalformedAnswer},
		{"Bedrock: __type", chat, 200, `{"__type":"ThrottlingException","message":"Rate exceeded"}`, batch.RetriableErrorBody},
		{"choices null", chat, 200, `{"id":"x","choices":null,"usage":null}`, batch.MalformedAnswer},
		{"choices empty", chat, 200, `{"id":"x","choices":[],"usage":{"prompt_tokens":1}}`, batch.MalformedAnswer},
		{"a choice that is null", chat, 200, `{"choices":[null]}`, batch.MalformedAnswer},
		{"message null", chat, 200, `{"choices":[{"message":null,"finish_reason":"stop"}]}`, batch.MalformedAnswer},
		{"message empty", chat, 200, `{"choices":[{"message":{},"finish_reason":"stop"}]}`, batch.MalformedAnswer},
		{"message as text", chat, 200, `{"choices":[{"message":"x"}]}`, batch.MalformedAnswer},
		{"delta for message", chat, 200, `{"object":"chat.completion.chunk","choices":[{"delta":{"content":"x"}}]}`, batch.MalformedAnswer},
		{"text null", "/v1/completions", 200, `{"choices":[{"text":null,"finish_reason":"stop"}]}`, batch.MalformedAnswer},
		{"error null beside", chat, 200, `{"error":null,` + ok[1:], ""},
		{"error false beside", chat, 200, `{"error":false,` + ok[1:], ""},
		{"error and an answer", chat, 200, `{"error":{"code":500,"message":"x"},` + ok[1:], batch.RetriableErrorBody},
		{"code and message beside null", chat, 200, `{"code":0,"message":"success","data":null}`, batch.MalformedAnswer},
		{"code of a gateway", chat, 200, `{"code":503,"message":"busy","data":null}`, batch.RetriableErrorBody},
		{"code of a gateway, final", chat, 200, `{"code":401,"msg":"no key"}`, batch.NonRetriableErrorBody},
		{"success false", chat, 200, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`, batch.MalformedAnswer},
		{"a byte order mark", chat, 200, "\xef\xbb\xbf" + ok, batch.MalformedAnswer},
		{"two objects", chat, 200, ok + ok, batch.UnexpectedStream},
		{"lines of objects", chat, 200, ok + "\n" + ok + "\n", batch.UnexpectedStream},
		{"more behind", chat, 200, ok + "]", batch.MalformedAnswer},
		{"a NUL behind", chat, 200, ok + "\x00", batch.MalformedAnswer},
		{"blanks behind", chat, 200, ok + " \r\n\t", ""},
		{"a member twice", chat, 200, `{"id":"a","id":"b",` + ok[1:], ""},
		{"choices twice", chat, 200, `{"choices":null,` + ok[1:], ""},
		{"deep", chat, 200, `{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,` + ok[1:], ""},
		{"too deep", chat, 200, `{"x":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `,` + ok[1:], batch.MalformedAnswer},
		{"a huge number", chat, 200, `{"created":1` + strings.Repeat("0", 400) + `,` + ok[1:], ""},
		{"tokens beyond all numbers", chat, 200, `{"usage":{"prompt_tokens":99999999999999999999,"completion_tokens":-5},` + ok[1:], ""},
		{"NaN in a logprob", chat, 200, `{"x":NaN,` + ok[1:], batch.MalformedAnswer},
		{"a comma behind the last", chat, 200, `{"choices":[{"message":{"content":"x"}},]}`, batch.MalformedAnswer},
		{"single quotes", chat, 200, `{'choices':[{'message':{'content':'x'}}]}`, batch.MalformedAnswer},
		{"a string with JSON in it", chat, 200, `"{\"choices\":[]}"`, batch.MalformedAnswer},
		{"nothing embedded", embeddings, 200, `{"object":"list","data":[],"model":"m"}`, batch.MalformedAnswer},
		{"a vector of NaN", embeddings, 200, `{"data":[{"embedding":[NaN,NaN],"index":0}]}`, batch.MalformedAnswer},
		{"a vector of null", embeddings, 200, `{"data":[{"embedding":[null,null],"index":0}]}`, batch.MalformedAnswer},
		{"an embedding in base64, empty", embeddings, 200, `{"data":[{"embedding":"","index":0}]}`, batch.MalformedAnswer},
		{"embeddings for data", embeddings, 200, `{"embeddings":[[0.1]]}`, batch.MalformedAnswer},

		{"Cloudflare 521", chat, 521, "error code: 521", batch.RetriableHTTPStatus},
		{"Cloudflare 523", chat, 523, "<html>", batch.RetriableHTTPStatus},
		{"Cloudflare 525", chat, 525, "<html>", batch.RetriableHTTPStatus},
		{"Cloudflare 526", chat, 526, "<html>", batch.RetriableHTTPStatus},
		{"Cloudflare 527", chat, 527, "<html>", batch.RetriableHTTPStatus},
		{"Cloudflare: a challenge", chat, 403, "<!DOCTYPE html><title>Just a moment...</title>", batch.NonRetriableHTTPStatus},
		{"Cloudflare: a challenge under 200", chat, 200, "<!DOCTYPE html><title>Just a moment...</title>", batch.MalformedAnswer},
		{"nginx: limit_req", chat, 503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>", batch.RetriableHTTPStatus},
		{"nginx: limit_req as 429", chat, 429, "<html><head><title>429 Too Many Requests</title></head></html>", batch.RetriableHTTPStatus},
		{"nginx: certificate", chat, 495, "<html>", batch.NonRetriableHTTPStatus},
		{"nginx: plain HTTP to HTTPS", chat, 400, "<html>The plain HTTP request was sent to HTTPS port</html>", batch.NonRetriableHTTPStatus},
		{"ALB 460", chat, 460, "", batch.NonRetriableHTTPStatus},
		{"ALB 561", chat, 561, "", batch.RetriableHTTPStatus},
		{"Envoy: overflow", chat, 503, "upstream connect error or disconnect/reset before headers. reset reason: overflow", batch.RetriableHTTPStatus},
		{"Envoy: rate", chat, 429, "local_rate_limited", batch.RetriableHTTPStatus},
		{"HAProxy: no server", chat, 503, "<html><body><h1>503 Service Unavailable</h1>", batch.RetriableHTTPStatus},
		{"HAProxy: timeout", chat, 408, "<html><body><h1>408 Request Time-out</h1>", batch.RetriableHTTPStatus},
		{"OpenRouter: error in a choice alone", chat, 200, `{"choices":[{"error":{"code":429,"message":"rate-limited upstream"}}]}`, batch.RetriableErrorBody},
		{"OpenRouter: flagged choice", chat, 200, `{"choices":[{"error":{"code":403,"message":"flagged"}}]}`, batch.NonRetriableErrorBody},
		{"DeepSeek: interrupted", chat, 200, `{"choices":[{"message":{"role":"assistant","content":"par"},"finish_reason":"insufficient_system_resource"}]}`, batch.RetriableErrorBody},
		{"a choice that timed out", chat, 200, `{"choices":[{"message":{"role":"assistant","content":"par"},"finish_reason":"timeout"}]}`, batch.RetriableErrorBody},
		{"a choice that was cancelled", chat, 200, `{"choices":[{"message":{"role":"assistant","content":"par"},"finish_reason":"cancelled"}]}`, batch.RetriableErrorBody},
		{"ERROR in capitals", chat, 200, `{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":"ERROR"}]}`, batch.RetriableErrorBody},
		{"Mistral: model_length", chat, 200, `{"choices":[{"message":{"role":"assistant","content":"par"},"finish_reason":"model_length"}]}`, ""},
		{"Gemini: a filtered answer", chat, 200, `{"choices":[{"message":{"role":"assistant"},"finish_reason":"content_filter: RECITATION"}]}`, ""},
		{"Gemini: blocked prompt", chat, 200, `{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{}}`, batch.MalformedAnswer},
		{"Gemini: its own shape", chat, 200, `{"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}`, batch.MalformedAnswer},
		{"Mistral: full", chat, 429, `{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","param":null,"code":"3505"}`, batch.RetriableHTTPStatus},
		{"Workers AI: errors", chat, 200, `{"result":null,"success":false,"errors":[{"code":3040,"message":"Capacity temporarily exceeded"}],"messages":[]}`, batch.MalformedAnswer},
		{"an error in a list", chat, 200, `{"error":[{"code":400,"message":"bad"}]}`, batch.NonRetriableErrorBody},
		{"code and message", chat, 200, `{"message":"Rate limited","code":"rate_limit_exceeded"}`, batch.RetriableErrorBody},
		{"code and message, final", chat, 200, `{"message":"no","code":"invalid_api_key"}`, batch.NonRetriableErrorBody},
		{"code and message, success", chat, 200, `{"message":"ok","code":"success"}`, batch.MalformedAnswer},
		{"DashScope: rate", chat, 200, `{"code":"Throttling.RateQuota","message":"Requests rate limit exceeded","request_id":"r"}`, batch.RetriableErrorBody},
		{"DashScope: in arrears", chat, 400, `{"error":{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}}`, batch.QuotaExhausted},
		{"DashScope: in arrears, under 200", chat, 200, `{"code":"Arrearage","message":"Access denied"}`, batch.QuotaExhausted},
		{"Azure: quota", chat, 429, `{"error":{"code":"InsufficientQuota","message":"x"}}`, batch.QuotaExhausted},
		{"Anthropic: credit, as it is answered", messages, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}`, batch.QuotaExhausted},
		{"a prompt that quotes it", messages, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"unexpected text: Your credit balance is too low"}}`, batch.NonRetriableHTTPStatus},
		{"quota beside metadata that is no object", chat, 429, `{"metadata":"x","error":{"code":"insufficient_quota","metadata":"y"}}`, batch.QuotaExhausted},
		{"quota in a nested error", chat, 429, `{"error":{"error":{"code":"insufficient_quota"}}}`, batch.QuotaExhausted},
		{"quota in an event", chat, 429, "event: error\ndata: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n", batch.QuotaExhausted},
		{"a vector with a hole", embeddings, 200, `{"data":[{"embedding":[0.1,null,0.3],"index":0}]}`, batch.MalformedAnswer},
		{"an image without a picture", "/v1/images/generations", 200, `{"data":[{"b64_json":"","url":null}]}`, batch.MalformedAnswer},
		{"escapes in names", chat, 200, `{"cho\u0069ces":[{"mess\u0061ge":{"content":"x"}}]}`, ""},
		{"choices twice, the last empty", chat, 200, `{"choices":[{"message":{"content":"x"}}],"choices":[]}`, batch.MalformedAnswer},
		{"a form feed before", chat, 200, "\x0c" + ok, batch.MalformedAnswer},
		{"Varnish", chat, 503, "<title>503 Backend fetch failed</title>", batch.RetriableHTTPStatus},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		request := chatRequest(base)
		request.Path = test.path
		if got := newClient(t, Config{}).Do(t.Context(), request); got.Reason != test.want {
			t.Errorf("%s: %.200s: %q (%s), want %q", test.said, test.body, got.Reason, got.Detail, test.want)
		}
	}
}

// Streams that were asked for, as servers in the field write them.
func TestOddStreams(t *testing.T) {
	t.Parallel()
	const part, end = `{"choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}]}`, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	const usage, done = `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`, "data: [DONE]\n\n"
	event := func(data ...string) string {
		var b strings.Builder
		for _, d := range data {
			b.WriteString("data: " + d + "\n\n")
		}
		return b.String()
	}
	for name, test := range map[string]struct {
		body string
		want batch.Reason
	}{
		"as it should be":              {event(part, end, usage) + done, ""},
		"without a blank behind data:": {strings.ReplaceAll(event(part, end), "data: ", "data:") + "data:[DONE]\n\n", ""},
		"CR LF":                        {strings.ReplaceAll(event(part, end)+done, "\n", "\r\n"), ""},
		"CR":                           {strings.ReplaceAll(event(part, end)+done, "\n", "\r"), ""},
		"a byte order mark":            {"\xef\xbb\xbf" + event(part, end) + done, ""},
		"comments":                     {": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + event(part) + ": ping\n\n" + event(end) + done, ""},
		"ids, names and retry":         {"retry: 1000\n\nid: 1\nevent: message\n" + event(part) + "id: 2\n" + event(end) + done, ""},
		"data in several lines":        {"data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"x\"},\ndata: \"finish_reason\":\"stop\"}]}\n\n" + done, ""},
		"no [DONE]":                    {event(part, end), ""},
		"no blank line at the end":     {event(part) + "data: " + end, ""},
		"neither [DONE] nor reason":    {event(part), batch.NetworkError},
		"[DONE] alone":                 {done, batch.MalformedAnswer},
		"nothing":                      {"", batch.NoAnswer},
		"usage alone":                  {event(usage) + done, batch.MalformedAnswer},
		"comments alone":               {": ping\n\n: ping\n\n", batch.NetworkError},
		"an error first, 429":          {event(`{"error":{"message":"Rate limit reached","type":"rate_limit_error","code":429}}`) + done, batch.RetriableErrorBody},
		"an error first, 400":          {event(`{"error":{"message":"context","type":"BadRequestError","code":400}}`) + done, batch.NonRetriableErrorBody},
		"an error first, quota":        {event(`{"error":{"message":"x","code":"insufficient_quota"}}`), batch.QuotaExhausted},
		"an error in the middle":       {event(part, `{"error":{"message":"x","code":502}}`) + done, batch.RetriableErrorBody},
		"an error by name":             {event(part) + "event: error\n" + event(`{"message":"overloaded","code":503}`), batch.RetriableErrorBody},
		"an error in a choice":         {event(part, `{"error":{"code":502,"message":"x"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}`) + done, batch.RetriableErrorBody},
		"a reason that is error":       {event(part, `{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`) + done, batch.RetriableErrorBody},
		"a reason that is abort":       {event(part, `{"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}`) + done, batch.RetriableErrorBody},
		"vLLM's error in words":        {event(part, `{"object":"error","message":"x","type":"InternalServerError","code":500}`) + done, batch.RetriableErrorBody},
		"no JSON":                      {event("Internal Server Error") + done, batch.MalformedAnswer},
		"a filtered prompt before":     {event(`{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}`, part, end) + done, ""},
		"choices that alternate":       {event(`{"choices":[{"index":1,"delta":{"content":"b"}}]}`, `{"choices":[{"index":0,"delta":{"content":"a"}}]}`, `{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`, `{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`) + done, ""},
		"one choice that does not end": {event(`{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"},{"index":1,"delta":{"content":"b"}}]}`), batch.NetworkError},
		"a tool call without an index": {event(`{"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`) + done, ""},
		"a delta that is null":         {event(part, `{"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}`) + done, ""},
		"a choice with a message":      {event(`{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}`) + done, ""},
		"what follows [DONE]":          {event(part, end) + done + event(part), ""},
		"JSON after all":               {okBody, ""},
		"text among the chunks":        {event(part, "upstream timed out", end) + done, batch.MalformedAnswer},
		"data: twice":                  {"data: data: " + part + "\n\n" + event(end) + done, batch.MalformedAnswer},
		"words that keep it alive":     {event("ping", part, ": keep-alive", "OPENROUTER PROCESSING", "null", "1", end) + done, ""},
		"a heartbeat by name":          {"event: heartbeat\ndata: still here\n\n" + event(part, end) + done, ""},
		"[done]":                       {event(part, end) + "data: [done]\n\n", ""},
		"an error without an error":    {event(`{"message":"overloaded","code":503}`), batch.RetriableErrorBody},
		"the same, final":              {event(`{"message":"context","code":400}`) + done, batch.NonRetriableErrorBody},
		"FastAPI's detail":             {event(`{"detail":"Internal Server Error"}`), batch.MalformedAnswer},
		"an object, then nothing":      {event(`{"id":"x"}`), batch.MalformedAnswer},
		"filtered, then nothing":       {event(`{"choices":[],"prompt_filter_results":[]}`), batch.NetworkError},
		"a reason that is null":        {event(`{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"null"}]}`), batch.NetworkError},
		"an error after the end":       {event(part, end, `{"error":{"message":"late","code":500}}`) + done, batch.RetriableErrorBody},
		"an error after [DONE]":        {event(part, end) + done + event(`{"error":{"message":"x"}}`), ""},
		"a page among the chunks":      {event(part, "<html>502</html>"), batch.MalformedAnswer},
		"a page behind them":           {event(part) + "<html>502</html>\n\n", batch.NetworkError},
		"a page after all":             {"<html>502 Bad Gateway</html>", batch.MalformedAnswer},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, test.body)
		})
		request := chatRequest(base)
		request.Options = &endpoint.Options{Stream: endpoint.On}
		if got := newClient(t, Config{}).Do(t.Context(), request); got.Reason != test.want {
			t.Errorf("%s: %.200q: %q (%s), want %q", name, test.body, got.Reason, got.Detail, test.want)
		}
	}
}

// An error under a success status that refuses who calls speaks for the calls that
// follow, as one with that status does.
func TestRefusalsUnderSuccess(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]batch.RefusalCause{
		`{"error":{"message":"Insufficient credits","code":402}}`:                           batch.CausePaymentRequired,
		`{"error":{"message":"No auth credentials found","code":401}}`:                      batch.CauseUnauthorized,
		`{"error":{"message":"x","code":403}}`:                                              batch.CauseForbidden,
		`{"error":{"message":"x","code":403,"metadata":{"flagged_input":"y"}}}`:             "",
		`{"error":{"message":"x","code":"insufficient_quota"}}`:                             batch.CauseQuotaExhausted,
		`{"error":{"message":"Budget has been exceeded!","type":"budget_exceeded"}}`:        batch.CauseQuotaExhausted,
		`{"error":{"message":"x","code":400}}`:                                              "",
		`{"error":{"message":"x","code":429}}`:                                              "",
		`{"statusCode":401,"message":"Access denied due to missing subscription key."}`:     batch.CauseUnauthorized,
		`{"choices":[{"message":{"role":"assistant","content":"401"}}],"error":{"code":0}}`: "",
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		got := newClient(t, Config{}).Do(t.Context(), chatRequest(base))
		kind := batch.RefusalCause("")
		if got.Refusal != nil {
			kind = got.Refusal.Kind
		}
		if kind != want {
			t.Errorf("%s: %s: refusal %q, want %q", body, got.Reason, kind, want)
		}
	}
}

// Who reads an answer goes by the order of its elements: one that lacks some is none.
func TestNumberOfElements(t *testing.T) {
	t.Parallel()
	const two, one = `{"data":[{"embedding":[0.1],"index":0},{"embedding":[0.2],"index":1}]}`, `{"data":[{"embedding":[0.1],"index":0}]}`
	for _, test := range []struct {
		path, request, answer string
		want                  batch.Reason
	}{
		{"/v1/embeddings", `{"input":["a","b"]}`, two, ""},
		{"/v1/embeddings", `{"input":["a","b"]}`, one, batch.MalformedAnswer},
		{"/v1/embeddings", `{"input":["a"]}`, two, batch.MalformedAnswer},
		{"/v1/embeddings", `{"input":"a"}`, one, ""},
		{"/v1/embeddings", `{"input":"a, b"}`, two, batch.MalformedAnswer},
		{"/v1/embeddings", `{"input":[1,2,3]}`, one, ""},
		{"/v1/embeddings", `{"input":[[1,2],[3]]}`, two, ""},
		{"/v1/embeddings", `{"input":[[1,2],[3],[4]]}`, two, batch.MalformedAnswer},
		{"/v1/embeddings", `{"input":["a"],"inp\u0075t":["a","b"]}`, two, ""},
		{"/v1/embeddings", `{"input":[{"type":"text","text":"a"},{"type":"image_url"}]}`, one, ""}, // parts of one
		{"/v1/embeddings", `{"messages":[{"role":"user","content":"a"}]}`, one, ""},                // vLLM
		{"/v1/embeddings", `{"input":[]}`, one, ""},
		{"/v1/completions", `{"prompt":["a","b"]}`, `{"choices":[{"text":"x"}]}`, batch.MalformedAnswer},
		{"/v1/completions", `{"prompt":["a","b"],"n":2}`, `{"choices":[{"text":"x"},{"text":"x"},{"text":"x"},{"text":"x"}]}`, ""},
		{"/v1/completions", `{"prompt":"a","n":2}`, `{"choices":[{"text":"x"}]}`, ""}, // of servers that do not know n
		{"/v1/chat/completions", `{"messages":[],"n":2}`, `{"choices":[{"message":{"content":"x"}}]}`, ""},
		{"/v1/moderations", `{"input":["a","b"]}`, `{"results":[{"flagged":false}]}`, batch.MalformedAnswer},
		{"/v1/moderations", `{"input":[{"type":"text","text":"a"},{"type":"image_url"}]}`, `{"results":[{"flagged":false}]}`, ""},
		{"/v1/score", `{"text_1":"q","text_2":["a","b"]}`, `{"data":[{"index":0,"score":1}]}`, batch.MalformedAnswer},
		{"/v1/score", `{"text_1":"q","text_2":["a","b"]}`, `{"scores":[1]}`, ""}, // SGLang's
		{"/classify", `{"input":["a","b"]}`, `{"data":[{"label":"x"}]}`, batch.MalformedAnswer},
		{"/pooling", `{"input":["a","b"]}`, `{"data":[{"data":[1]},{"data":[2]}]}`, ""},
		{"/v1/rerank", `{"query":"q","documents":["a","b"]}`, `{"results":[{"index":1,"relevance_score":1}]}`, ""}, // some have a default of top_n
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.answer) })
		request := chatRequest(base)
		request.Path, request.Body = test.path, []byte(test.request)
		if got := newClient(t, Config{}).Do(t.Context(), request); got.Reason != test.want {
			t.Errorf("%s %s: %s: %q (%s), want %q", test.path, test.request, test.answer, got.Reason, got.Detail, test.want)
		}
	}
}

// A charset of a byte a character is read as its header says; one that is no JSON as it
// stands, or says nothing, is not guessed.
func TestCharsets(t *testing.T) {
	t.Parallel()
	const body, latin1 = `{"choices":[{"message":{"content":"café"}}]}`, "{\"choices\":[{\"message\":{\"content\":\"caf\xe9\"}}]}"
	utf16 := func(s string) string {
		return strings.Join(strings.Split(s, ""), "\x00") + "\x00"
	}
	for _, test := range []struct {
		contentType, body, kept string
		want                    batch.Reason
	}{
		{"application/json; charset=utf-8", body, body, ""},
		{"application/json; charset=ISO-8859-1", latin1, body, ""},
		{"application/json; charset=\"windows-1252\"", latin1, body, ""},
		{"application/json; charset=iso-8859-1", body, body, ""}, // it says so and is not
		{"application/json", latin1, latin1, ""},
		{"application/json; charset=utf-16le", body, body, ""},
		{"application/json; charset=utf-16le", utf16(okBody), utf16(okBody), batch.MalformedAnswer},
		{"application/json; charset=utf-16", "\xff\xfe" + utf16(okBody), "\xff\xfe" + utf16(okBody), batch.MalformedAnswer},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.contentType)
			_, _ = io.WriteString(w, test.body)
		})
		got := newClient(t, Config{}).Do(t.Context(), chatRequest(base))
		if got.Reason != test.want || string(got.Response.Body) != test.kept {
			t.Errorf("%s, %.30q: %q (%s), kept %q, want %q and %q", test.contentType, test.body, got.Reason, got.Detail, got.Response.Body, test.want, test.kept)
		}
	}
}

// An endpoint that quotes the key tells it to nobody but the batch that brought it.
func TestAnswersHoldNoKey(t *testing.T) {
	t.Parallel()
	const key = "sk-of-the-user-0123456789"
	for _, test := range []struct {
		key    string
		own    bool
		status int
		body   string
		kept   string
	}{
		{key, false, 401, `{"error":{"message":"Incorrect API key provided: ` + key + `."}}`, `{"error":{"message":"Incorrect API key provided: ***."}}`},
		{key, false, 200, `{"choices":[{"message":{"content":"Bearer ` + key + `"}}]}`, `{"choices":[{"message":{"content":"Bearer ***"}}]}`},
		{key, true, 401, `{"error":{"message":"` + key + `"}}`, `{"error":{"message":"` + key + `"}}`},
		{"none", false, 401, `{"error":{"message":"none"}}`, `{"error":{"message":"none"}}`},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		request := chatRequest(base)
		request.APIKey, request.OwnKey = test.key, test.own
		got := newClient(t, Config{}).Do(t.Context(), request)
		if string(got.Response.Body) != test.kept || !test.own && strings.Contains(got.Cause, key) {
			t.Errorf("kept %s, cause %q, want %s", got.Response.Body, got.Cause, test.kept)
		}
	}
}
