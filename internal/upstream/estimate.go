package upstream

import (
	"bytes"
	"strings"
)

const (
	// bytesPerToken is the usual rule of thumb for English, OpenAI's too:
	// https://platform.openai.com/tokenizer.
	bytesPerToken = 4
	// attachmentTokens is what a picture or sound in a data URL counts as, however
	// long it is: engines scale them down to about that.
	attachmentTokens = 1000
	// minAttachment is the length from which a string is looked at for that.
	minAttachment = 256
	// unboundedOutput is taken for the answer where the body doesn't bound it.
	unboundedOutput = 512
	// maxEstimate keeps a mistyped bound from overflowing.
	maxEstimate = 1_000_000_000
)

// EstimateTokens is what a call to a path is taken to use, as OpenAI counts for
// its rate limits: EstimateUse, added up.
func EstimateTokens(path string, body []byte) int64 {
	prompt, completion, _ := EstimateUse(path, body)
	return prompt + completion
}

// EstimateUse is what a call to a path is taken to use: a token for four bytes of
// the body, and for the answers, of which there are n, max_tokens,
// max_completion_tokens or max_output_tokens, or, where none of them bounds it,
// 512. It does not look at prompts but for what is no text in them.
func EstimateUse(path string, body []byte) (prompt, completion int64, bounded bool) {
	output, n := int64(0), int64(1)
	for fields := newFieldScanner(body); ; {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		switch string(key) {
		case "max_tokens", "max_completion_tokens", "max_output_tokens":
			if most := readCount(value); most > 0 {
				output, bounded = max(output, most), true
			}
		case "n":
			n = min(max(readCount(value), 1), 1024)
		}
	}
	switch {
	case !answersInTokens(path):
		output, bounded = 0, true
	case !bounded:
		output = unboundedOutput
	}
	return promptTokens(body), min(output, maxEstimate/1024) * n, bounded
}

// answersInTokens reports whether the answers of a path are generated.
func answersInTokens(path string) bool {
	for _, end := range []string{"/completions", "/responses", "/messages"} {
		if strings.HasSuffix(path, end) {
			return true
		}
	}
	return false
}

// promptTokens counts the body's bytes, without those of data URLs.
func promptTokens(body []byte) int64 {
	size, attachments := len(body), 0
	for rest := body; ; {
		at := bytes.Index(rest, []byte(`"data:`))
		if at < 0 {
			break
		}
		end := stringEnd(rest[at:])
		if end < 0 {
			break
		}
		if end >= minAttachment {
			size -= end
			attachments++
		}
		rest = rest[at+end:]
	}
	return int64(size/bytesPerToken + attachments*attachmentTokens)
}
