package mock

import (
	"cmp"
	"encoding/json"
	"strconv"
)

// created stands in every answer, so that equal calls have equal answers.
const created = 1_767_225_600 // 2026-01-01T00:00:00Z

const bytesPerToken = 4 // of a prompt, roughly, in English

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// answer returns the body for a call that succeeds. The error says what the
// call asks for that cannot be given.
func (s *Server) answer(c *call) ([]byte, error) {
	switch c.endpoint {
	case embeddingsEndpoint:
		return json.Marshal(c.embeddings())
	case moderationsEndpoint:
		return json.Marshal(c.moderation())
	}
	prompt, output := c.bodyBytes/bytesPerToken, 0
	pieces := make([]piece, max(c.N, 1))
	for i := range pieces {
		var err error
		if pieces[i], err = s.write(c, i); err != nil {
			return nil, err
		}
		output += pieces[i].tokens
	}
	used := usage{prompt, output, prompt + output}
	switch c.endpoint {
	case chatCompletionsEndpoint:
		return json.Marshal(c.chatCompletion(pieces, used))
	case completionsEndpoint:
		return json.Marshal(c.completion(pieces, used))
	}
	return json.Marshal(c.response(pieces[0], used))
}

// id is the same for every call of a custom id.
func (c *call) id() string { return strconv.FormatUint(c.draw.perID(forID), 16) }

// maxOutput is the most tokens that the call lets an answer have; 0: as many as
// there are.
func (c *call) maxOutput() int { return cmp.Or(c.MaxOutputTokens, c.MaxCompletionTokens, c.MaxTokens) }
