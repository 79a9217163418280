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
func (s *Server) answer(c *call) (body []byte, answer any, err error) {
	if answer, err = s.compose(c); err == nil {
		body, err = json.Marshal(answer)
	}
	return body, answer, err
}

func (s *Server) compose(c *call) (any, error) {
	switch c.endpoint {
	case embeddingsEndpoint:
		return c.embeddings(), nil
	case moderationsEndpoint:
		return c.moderation(), nil
	case imagesEndpoint:
		return c.images(), nil
	case rerankEndpoint:
		return c.rerank(), nil
	case scoreEndpoint:
		return c.scores(), nil
	case classifyEndpoint:
		return c.classes(), nil
	case poolingEndpoint:
		return c.pooled(), nil
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
		return c.chatCompletion(pieces, used), nil
	case completionsEndpoint:
		return c.completion(pieces, used), nil
	case messagesEndpoint:
		return c.message(pieces[0], used), nil
	}
	return c.response(pieces[0], used), nil
}

// id is the same for every call of a custom id.
func (c *call) id() string { return strconv.FormatUint(c.draw.perID(forID), 16) }

// maxOutput is the most tokens that the call lets an answer have; 0: as many as
// there are.
func (c *call) maxOutput() int { return cmp.Or(c.MaxOutputTokens, c.MaxCompletionTokens, c.MaxTokens) }
