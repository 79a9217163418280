package mock

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
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

type chatCompletion struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   usage        `json:"usage"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      chatMessage `json:"message"`
	Logprobs     any         `json:"logprobs"`
	FinishReason string      `json:"finish_reason"`
}

type chatMessage struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   usage              `json:"usage"`
}

type completionChoice struct {
	Index        int    `json:"index"`
	Text         string `json:"text"`
	Logprobs     any    `json:"logprobs"`
	FinishReason string `json:"finish_reason"`
}

type response struct {
	ID        string           `json:"id"`
	Object    string           `json:"object"`
	CreatedAt int64            `json:"created_at"`
	Status    string           `json:"status"`
	Error     any              `json:"error"`
	Model     string           `json:"model"`
	Output    []responseOutput `json:"output"`
	Usage     responseUsage    `json:"usage"`
}

type responseOutput struct {
	ID      string            `json:"id"`
	Type    string            `json:"type"`
	Status  string            `json:"status"`
	Role    string            `json:"role"`
	Content []responseContent `json:"content"`
}

type responseContent struct {
	Type        string `json:"type"`
	Text        string `json:"text"`
	Annotations []any  `json:"annotations"`
}

type responseUsage struct {
	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

type embeddings struct {
	Object string         `json:"object"`
	Data   []embedding    `json:"data"`
	Model  string         `json:"model"`
	Usage  embeddingUsage `json:"usage"`
}

type embedding struct {
	Object string `json:"object"`
	Index  int    `json:"index"`
	// Embedding is []float32, or a string where base64 is asked for.
	Embedding any `json:"embedding"`
}

type embeddingUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// answer returns the body for a call that succeeds.
func (s *Server) answer(c *call) ([]byte, error) {
	prompt, output := c.bodyBytes/bytesPerToken, s.words.perAnswer
	id := strconv.FormatUint(c.draw.perID(forID), 16)
	switch c.endpoint {
	case chatCompletionsEndpoint:
		return json.Marshal(chatCompletion{
			ID: "chatcmpl-" + id, Object: "chat.completion", Created: created, Model: c.Model,
			Choices: []chatChoice{{
				Message:      chatMessage{Role: "assistant", Content: s.words.text(c)},
				FinishReason: "stop",
			}},
			Usage: usage{prompt, output, prompt + output},
		})
	case completionsEndpoint:
		return json.Marshal(completion{
			ID: "cmpl-" + id, Object: "text_completion", Created: created, Model: c.Model,
			Choices: []completionChoice{{Text: s.words.text(c), FinishReason: "stop"}},
			Usage:   usage{prompt, output, prompt + output},
		})
	case responsesEndpoint:
		return json.Marshal(response{
			ID: "resp_" + id, Object: "response", CreatedAt: created, Status: "completed", Model: c.Model,
			Output: []responseOutput{{
				ID: "msg_" + id, Type: "message", Status: "completed", Role: "assistant",
				Content: []responseContent{{Type: "output_text", Text: s.words.text(c), Annotations: []any{}}},
			}},
			Usage: responseUsage{prompt, output, prompt + output},
		})
	}
	list := embeddings{Object: "list", Model: c.Model, Usage: embeddingUsage{prompt, prompt}}
	for i := range c.inputs() {
		list.Data = append(list.Data, embedding{Object: "embedding", Index: i, Embedding: c.vector(i)})
	}
	return json.Marshal(list)
}

// vector returns a vector of length 1, as []float32 or in base64.
func (c *call) vector(index int) any {
	v, norm := make([]float32, c.dimensions()), 0.0
	state := c.draw.perID(forVector) + uint64(index)
	for i := range v {
		state = mix(state)
		v[i] = float32(2*unit(state) - 1)
		norm += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(norm))
	}
	if c.EncodingFormat != "base64" {
		return v
	}
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
