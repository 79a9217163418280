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
	var answers Answers
	for fields := newFieldScanner(body); ; {
		key, value, ok := fields.next()
		if !ok {
			return answers.EstimateUse(path, body)
		}
		answers.Member(key, value)
	}
}

// Answers are how many answers a body asks for and how long they may be, for who
// walks its members anyway. The zero value is that of a body without members.
type Answers struct {
	most int64 // tokens of each; 0: not bounded
	n    int64 // 0: one
}

// Member reads a member of the body: its key as written, without quotes, and its
// value as written.
func (a *Answers) Member(key, value []byte) {
	switch string(key) {
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		a.most = max(a.most, readCount(value))
	case "n":
		a.n = min(readCount(value), 1024)
	}
}

// EstimateUse is EstimateUse of the body whose members were read.
func (a Answers) EstimateUse(path string, body []byte) (prompt, completion int64, bounded bool) {
	output, bounded := a.most, a.most > 0
	switch {
	case !answersInTokens(path):
		output, bounded = 0, true
	case !bounded:
		output = unboundedOutput
	}
	return promptTokens(body), min(output, maxEstimate/1024) * max(a.n, 1), bounded
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
