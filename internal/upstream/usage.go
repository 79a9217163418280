package upstream

import (
	"bytes"
	"encoding/json"
	"strconv"

	"fusillade/internal/batch"
)

// readUsage takes the model and the token counts from an answer's members.
// What is absent, or not of the expected type, is left zero.
func readUsage(m *members) (model string, usage batch.Usage) {
	return readString(m.model), readTokens(m.usage)
}

func readTokens(object []byte) (usage batch.Usage) {
	fields := newFieldScanner(object)
	for {
		key, value, ok := fields.next()
		if !ok {
			return usage
		}
		switch string(key) {
		case "prompt_tokens", "input_tokens":
			usage.PromptTokens = readCount(value)
		case "completion_tokens", "output_tokens":
			usage.CompletionTokens = readCount(value)
		case "prompt_tokens_details", "input_tokens_details":
			usage.CachedTokens = readDetail(value, "cached_tokens")
		case "completion_tokens_details", "output_tokens_details":
			usage.ReasoningTokens = readDetail(value, "reasoning_tokens")
		}
	}
}

func readDetail(object []byte, name string) int64 {
	fields := newFieldScanner(object)
	for {
		key, value, ok := fields.next()
		if !ok {
			return 0
		}
		if string(key) == name {
			return readCount(value)
		}
	}
}

func readCount(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

func readString(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return text(string(value[1:len(value)-1]), maxNameBytes)
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return text(s, maxNameBytes)
}
