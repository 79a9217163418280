package upstream

// streamFixtures are streams as servers send them, shortened, and the answer that
// each gives without a stream.
var streamFixtures = []struct{ name, path, stream, want string }{
	{
		"OpenAI", "/v1/chat/completions", `data: {"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"4tYg"}

data: {"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"k"}

data: {"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45","choices":[{"index":0,"delta":{"content":" \"world\"\n\ud83d"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x1"}

data: {"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45","choices":[{"index":0,"delta":{"content":"\ude00"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x1"}

data: {"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null,"obfuscation":"Zz"}

data: {"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":3,"total_tokens":22,"prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2}},"obfuscation":""}

data: [DONE]

`, `{"id":"chatcmpl-B1","object":"chat.completion","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_eede8f0d45",
"choices":[{"index":0,"message":{"role":"assistant","content":"Hello \"world\"\n\ud83d\ude00","refusal":null},"logprobs":null,"finish_reason":"stop"}],
"usage":{"prompt_tokens":19,"completion_tokens":3,"total_tokens":22,"prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2}}}`,
	},
	{
		"Perplexity, whose message repeats the deltas", "/v1/chat/completions", `data: {"id":"p","model":"sonar","created":1,"object":"chat.completion.chunk","usage":{"prompt_tokens":1,"completion_tokens":1},"choices":[{"index":0,"finish_reason":null,"message":{"role":"assistant","content":"Hel"},"delta":{"role":"assistant","content":"Hel"}}]}

data: {"id":"p","model":"sonar","created":1,"object":"chat.completion.chunk","usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hello"},"delta":{"role":"assistant","content":"lo"}}]}

`, `{"id":"p","model":"sonar","created":1,"object":"chat.completion","usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hello"}}]}`,
	},
	{
		"a whole message behind the deltas", "/v1/chat/completions", `data: {"id":"w","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}]}

data: {"id":"w","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}

data: [DONE]

`, `{"id":"w","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}`,
	},
	{
		"tool calls in parallel", "/v1/chat/completions", `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"get_weather","arguments":""}}],"refusal":null},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"get_time","arguments":""}}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Rome\"}"}},{"index":1,"function":{"arguments":"{}"}}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: [DONE]

`, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[
{"id":"call_a","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Rome\"}"}},{"id":"call_b","type":"function","function":{"name":"get_time","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`,
	},
	{
		"vLLM, an id in each piece and all members in each delta", "/v1/chat/completions", `data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":5,"total_tokens":5,"completion_tokens":0}}

data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"reasoning_content":"Let me"},"logprobs":null,"finish_reason":null,"token_ids":[1,2]}],"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}

data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"reasoning_content":" see"},"logprobs":null,"finish_reason":null,"token_ids":[3]}],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}}

data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"tool_calls":[{"id":"chatcmpl-tool-1","type":"function","index":0,"function":{"name":"f"}}]},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"tool_calls":[{"id":"chatcmpl-tool-2","type":"function","index":0,"function":{"arguments":"{\"a\": "}}]},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"tool_calls":[{"id":"chatcmpl-tool-3","type":"function","index":0,"function":{"arguments":"1}"}}]},"logprobs":null,"finish_reason":"tool_calls","stop_reason":128012}],"usage":{"prompt_tokens":5,"total_tokens":20,"completion_tokens":15}}

data: [DONE]

`, `{"id":"chatcmpl-9","object":"chat.completion","created":1,"model":"q","choices":[{"index":0,"message":{"role":"assistant","content":"","reasoning_content":"Let me see",
"tool_calls":[{"id":"chatcmpl-tool-1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},"logprobs":null,"finish_reason":"tool_calls","stop_reason":128012,"token_ids":[1,2,3]}],
"usage":{"prompt_tokens":5,"total_tokens":20,"completion_tokens":15}}`,
	},
	{
		"SGLang, roles and nulls in each delta", "/v1/chat/completions", `data: {"id":"s","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"s","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"role":null,"content":"Par","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"s","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"role":null,"content":"is","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"s","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":"stop","matched_stop":151645}],"usage":null}

data: {"id":"s","object":"chat.completion.chunk","created":1,"model":"q","choices":[],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"prompt_tokens_details":null}}

data: [DONE]

`, `{"id":"s","object":"chat.completion","created":1,"model":"q","choices":[{"index":0,"message":{"role":"assistant","content":"Paris","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":"stop","matched_stop":151645}],
"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"prompt_tokens_details":null}}`,
	},
	{
		"llama.cpp, with timings", "/v1/chat/completions", `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"chatcmpl-l","model":"gpt-3.5-turbo","system_fingerprint":"b5000-1","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi"}}],"created":1,"id":"chatcmpl-l","model":"gpt-3.5-turbo","system_fingerprint":"b5000-1","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1,"id":"chatcmpl-l","model":"gpt-3.5-turbo","system_fingerprint":"b5000-1","object":"chat.completion.chunk"}

data: {"choices":[],"created":1,"id":"chatcmpl-l","model":"gpt-3.5-turbo","system_fingerprint":"b5000-1","object":"chat.completion.chunk","usage":{"completion_tokens":1,"prompt_tokens":2,"total_tokens":3},"timings":{"prompt_n":2,"predicted_ms":1.5}}

data: [DONE]

`, `{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"Hi"}}],"created":1,"id":"chatcmpl-l","model":"gpt-3.5-turbo","system_fingerprint":"b5000-1","object":"chat.completion",
"usage":{"completion_tokens":1,"prompt_tokens":2,"total_tokens":3},"timings":{"prompt_n":2,"predicted_ms":1.5}}`,
	},
	{
		"Ollama, whole tool calls that all have index 0", "/v1/chat/completions", `data: {"id":"chatcmpl-86","object":"chat.completion.chunk","created":1743277352,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"id":"call_1","index":0,"type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-86","object":"chat.completion.chunk","created":1743277352,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"id":"call_2","index":0,"type":"function","function":{"name":"f","arguments":"{\"x\":2}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-86","object":"chat.completion.chunk","created":1743277352,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"tool_calls"}]}

data: [DONE]

`, `{"id":"chatcmpl-86","object":"chat.completion","created":1743277352,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"",
"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"call_2","type":"function","function":{"name":"f","arguments":"{\"x\":2}"}}]},"finish_reason":"tool_calls"}]}`,
	},
	{
		"Gemini, tool calls without an index", "/v1/chat/completions", `data: {"choices":[{"delta":{"role":"assistant","tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"a","type":"function"},{"function":{"arguments":"{}","name":"f"},"id":"b","type":"function"}]},"index":0,"finish_reason":"stop"}],"created":1,"model":"g","object":"chat.completion.chunk"}

data: [DONE]

`, `{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"a","type":"function"},{"function":{"arguments":"{}","name":"f"},"id":"b","type":"function"}]},"index":0,"finish_reason":"stop"}],
"created":1,"model":"g","object":"chat.completion"}`,
	},
	{
		"TGI, no mark at the end and no line between events", "/v1/chat/completions", `data:{"object":"chat.completion.chunk","id":"","created":1,"model":"tgi","system_fingerprint":"3.0.1-native","choices":[{"index":0,"delta":{"role":"assistant","content":"De"},"logprobs":null,"finish_reason":null}],"usage":null}
data:{"object":"chat.completion.chunk","id":"","created":1,"model":"tgi","system_fingerprint":"3.0.1-native","choices":[{"index":0,"delta":{"role":"assistant","content":"ep"},"logprobs":null,"finish_reason":"eos_token"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
		`{"object":"chat.completion","id":"","created":1,"model":"tgi","system_fingerprint":"3.0.1-native","choices":[{"index":0,"message":{"role":"assistant","content":"Deep"},"logprobs":null,"finish_reason":"eos_token"}],
"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
	},
	{
		"OpenRouter, comments and reasoning", "/v1/chat/completions", `: OPENROUTER PROCESSING

: OPENROUTER PROCESSING

data: {"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Th","reasoning_details":[{"type":"reasoning.text","text":"Th","format":"anthropic-claude-v1","index":0}]},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}

data: {"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"ink","reasoning_details":[{"type":"reasoning.text","text":"ink","format":"anthropic-claude-v1","index":0}]},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}

data: {"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":null,"reasoning_details":[{"type":"reasoning.text","signature":"EqQB","format":"anthropic-claude-v1","index":0},{"type":"reasoning.encrypted","data":"AA","index":0}]},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}

data: {"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"42"},"finish_reason":"stop","native_finish_reason":"end_turn","logprobs":null}]}

: OPENROUTER PROCESSING

data: {"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null,"native_finish_reason":null,"logprobs":null}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"cost":0.1}}

data: [DONE]

`, `{"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion","created":1,"choices":[{"index":0,"message":{"role":"assistant","content":"42","reasoning":"Think","reasoning_details":[
{"type":"reasoning.text","text":"Think","format":"anthropic-claude-v1","index":0,"signature":"EqQB"},{"type":"reasoning.encrypted","data":"AA","index":0}]},"finish_reason":"stop","native_finish_reason":"end_turn","logprobs":null}],
"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"cost":0.1}}`,
	},
	{
		"LiteLLM, thinking blocks", "/v1/chat/completions", `data: {"id":"l","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","thinking_blocks":[{"type":"thinking","thinking":"Hm","signature":null}]}}]}

data: {"id":"l","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"thinking_blocks":[{"type":"thinking","thinking":"m","signature":null}]}}]}

data: {"id":"l","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"sig"}]}}]}

data: {"id":"l","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"ok"}}]}

data: {"id":"l","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"finish_reason":"stop","index":0,"delta":{}}]}

data: [DONE]

`, `{"id":"l","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","thinking_blocks":[{"type":"thinking","thinking":"Hmm","signature":"sig"}],"content":"ok"},"finish_reason":"stop"}]}`,
	},
	{
		"Azure, filters and a first chunk of its own", "/v1/chat/completions", `data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":7,"id":"z","model":"gpt-4o","object":"chat.completion.chunk","system_fingerprint":"fp"}

data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"delta":{"content":"A"},"finish_reason":null,"index":0,"logprobs":null}],"created":7,"id":"z","model":"gpt-4o","object":"chat.completion.chunk","system_fingerprint":"fp"}

data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"delta":{"content":"B"},"finish_reason":null,"index":0,"logprobs":null}],"created":7,"id":"z","model":"gpt-4o","object":"chat.completion.chunk","system_fingerprint":"fp"}

data: {"choices":[{"content_filter_results":{},"delta":{},"finish_reason":"stop","index":0,"logprobs":null}],"created":7,"id":"z","model":"gpt-4o","object":"chat.completion.chunk","system_fingerprint":"fp"}

data: [DONE]

`, `{"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"message":{"content":"AB","refusal":null,"role":"assistant"},"finish_reason":"stop","index":0,"logprobs":null}],"created":7,"id":"z","model":"gpt-4o",
"object":"chat.completion","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}],"system_fingerprint":"fp"}`,
	},
	{
		"two choices, logprobs, a refusal, a legacy function call, audio", "/v1/chat/completions", `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":null,"refusal":"I'm "},"logprobs":{"content":null,"refusal":[{"token":"I'm","logprob":-0.1,"bytes":[1],"top_logprobs":[]}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"A"},"logprobs":{"content":[{"token":"index","logprob":0,"bytes":null,"top_logprobs":[{"index":0}]}],"refusal":null},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":1,"delta":{"refusal":"sorry"},"logprobs":{"content":null,"refusal":[{"token":"sorry","logprob":-0.2,"bytes":[2],"top_logprobs":[]}]},"finish_reason":"stop"}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":""}},"logprobs":{"content":[{"token":"b","logprob":-2,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"function_call":{"arguments":"{\"a\""}},"logprobs":null,"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"function_call":{"arguments":":1}"},"audio":{"id":"audio_1","transcript":"Hel"}},"logprobs":null,"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"audio":{"transcript":"lo"}},"logprobs":null,"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"audio":{"data":"AAAA"}},"logprobs":null,"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"audio":{"data":"BBBB","expires_at":9}},"logprobs":null,"finish_reason":"function_call"}]}

data: [DONE]

`, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[
{"index":0,"message":{"role":"assistant","content":"A","function_call":{"name":"f","arguments":"{\"a\":1}"},"audio":{"id":"audio_1","transcript":"Hello","data":"AAAABBBB","expires_at":9}},
 "logprobs":{"content":[{"token":"index","logprob":0,"bytes":null,"top_logprobs":[{"index":0}]},{"token":"b","logprob":-2,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":"function_call"},
{"index":1,"message":{"role":"assistant","content":null,"refusal":"I'm sorry"},
 "logprobs":{"content":null,"refusal":[{"token":"I'm","logprob":-0.1,"bytes":[1],"top_logprobs":[]},{"token":"sorry","logprob":-0.2,"bytes":[2],"top_logprobs":[]}]},"finish_reason":"stop"}]}`,
	},
	{
		"a whole answer as one event", "/v1/chat/completions", "\ufeff\r\n\r\ndata: " + okBody + "\r\rdata: [DONE]\r\r",
		`{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"}}]}`,
	},
	{
		"data in several lines", "/v1/chat/completions", "id: 1\nretry: 10\nevent: message\ndata: {\"id\":\"c\",\ndata: \"choices\":[{\"delta\":{\"content\":\"x\"},\ndata:\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]",
		`{"id":"c","choices":[{"message":{"role":"assistant","content":"x"},"finish_reason":"stop","index":0}]}`,
	},
	{
		"completions of vLLM", "/v1/completions", `data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"a","logprobs":{"text_offset":[0],"token_logprobs":[-1],"tokens":["a"],"top_logprobs":[{"a":-1}]},"finish_reason":null,"stop_reason":null}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":1,"text":"x","logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"b","logprobs":{"text_offset":[1],"token_logprobs":[-2],"tokens":["b"],"top_logprobs":[{"b":-2}]},"finish_reason":"stop","stop_reason":"b"}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":4,"total_tokens":7,"completion_tokens":3}}

data: [DONE]

`, `{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"ab","logprobs":{"text_offset":[0,1],"token_logprobs":[-1,-2],"tokens":["a","b"],"top_logprobs":[{"a":-1},{"b":-2}]},"finish_reason":"stop","stop_reason":"b"},
{"index":1,"text":"x","logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":{"prompt_tokens":4,"total_tokens":7,"completion_tokens":3}}`,
	},
	{
		"responses", "/v1/responses", `event: response.created
data: {"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress","output":[],"usage":null},"sequence_number":0}

event: response.in_progress
data: {"type":"response.in_progress","response":{"id":"resp_1","object":"response","status":"in_progress","output":[],"usage":null},"sequence_number":1}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hi","logprobs":[]}

event: keepalive
data: {"type":"keepalive","sequence_number":5}

event: response.completed
data: {"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","object":"response","status":"completed","model":"gpt-5","error":null,"output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}}

`, `{"id":"resp_1","object":"response","status":"completed","model":"gpt-5","error":null,"output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}`,
	},
	{
		"Anthropic", "/v1/messages", `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_read_input_tokens":3,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"me"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[]}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Okay, "}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"x","document_index":0}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"y","document_index":1}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"ok"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"location\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" \"San Fra"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"ncisco\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"now","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_start
data: {"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_3","name":"cut","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

`, `{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{"type":"thinking","thinking":"Let me","signature":"EqQBCgIYAhIM"},
{"type":"text","text":"Okay, ok","citations":[{"type":"char_location","cited_text":"x","document_index":0},{"type":"char_location","cited_text":"y","document_index":1}]},
{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{"location":"San Francisco"}},{"type":"tool_use","id":"toolu_2","name":"now","input":{}},{"type":"tool_use","id":"toolu_3","name":"cut","input":{"INVALID_JSON":"{\"a\":"}}],
"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":25,"cache_read_input_tokens":3,"output_tokens":89}}`,
	},
}
