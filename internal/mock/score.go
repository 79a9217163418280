package mock

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
)

// Answers of endpoints that weigh texts, as vLLM gives them.

type rerank struct {
	ID      string         `json:"id"`
	Model   string         `json:"model"`
	Usage   totalUsage     `json:"usage"`
	Results []rerankResult `json:"results"`
}

type rerankResult struct {
	Index          int            `json:"index"`
	Document       rerankDocument `json:"document"`
	RelevanceScore float64        `json:"relevance_score"`
}

type rerankDocument struct {
	Text string `json:"text"`
}

type totalUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// listed is what all others of them answer with.
type listed[T any] struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Created int64          `json:"created"`
	Model   string         `json:"model"`
	Data    []T            `json:"data"`
	Usage   embeddingUsage `json:"usage"`
}

type score struct {
	Index  int     `json:"index"`
	Object string  `json:"object"`
	Score  float64 `json:"score"`
}

type class struct {
	Index   int       `json:"index"`
	Label   string    `json:"label"`
	Probs   []float64 `json:"probs"`
	Classes int       `json:"num_classes"`
}

type pooled struct {
	Index  int    `json:"index"`
	Object string `json:"object"`
	Data   any    `json:"data"`
}

func listOf[T any](c *call, prefix string, n int, element func(i int) T) listed[T] {
	prompt := c.bodyBytes / bytesPerToken
	all := listed[T]{ID: prefix + c.id(), Object: "list", Created: created, Model: c.Model, Data: []T{}, Usage: embeddingUsage{prompt, prompt}}
	for i := range n {
		all.Data = append(all.Data, element(i))
	}
	return all
}

// weight is a number from 0 to 1, the same for every call of a custom id.
func (c *call) weight(i int) float64 {
	return math.Round(unit(mix(c.draw.perID(forVector)+uint64(i)))*1e6) / 1e6
}

func (c *call) rerank() rerank {
	prompt := c.bodyBytes / bytesPerToken
	answer := rerank{ID: "rerank-" + c.id(), Model: c.Model, Usage: totalUsage{prompt, prompt}, Results: []rerankResult{}}
	for i, document := range textsOf(c.Documents) {
		answer.Results = append(answer.Results, rerankResult{Index: i, Document: rerankDocument{document}, RelevanceScore: c.weight(i)})
	}
	return answer
}

// scores has one for each second text.
func (c *call) scores() listed[score] {
	texts := c.Text2
	for _, other := range []json.RawMessage{c.Documents, c.Data2, c.Items} {
		if len(texts) == 0 {
			texts = other
		}
	}
	return listOf(c, "score-", max(len(textsOf(texts)), 1), func(i int) score { return score{i, "score", c.weight(i)} })
}

func (c *call) classes() listed[class] {
	return listOf(c, "classify-", c.inputs(), func(i int) class {
		p := c.weight(i)
		label := "LABEL_0"
		if p < 0.5 {
			label = "LABEL_1"
		}
		return class{Index: i, Label: label, Probs: []float64{p, 1 - p}, Classes: 2}
	})
}

func (c *call) pooled() listed[pooled] {
	return listOf(c, "pool-", max(c.inputs(), 1), func(i int) pooled { return pooled{i, "pooling", c.vector(i)} })
}

// textsOf reads a text or a list of texts, or of objects with a text.
func textsOf(raw json.RawMessage) (texts []string) {
	var elements []json.RawMessage
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] != '[' {
		elements = []json.RawMessage{raw}
	} else if json.Unmarshal(raw, &elements) != nil {
		return nil
	}
	for _, element := range elements {
		var text string
		if json.Unmarshal(element, &text) != nil {
			var object rerankDocument
			_ = json.Unmarshal(element, &object) // another kind of document has no text
			text = object.Text
		}
		texts = append(texts, text)
	}
	return texts
}

// An image of one transparent pixel, as PNG.
var pixel = base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89" +
	"\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x03\x00\x08\xfc\x02\xfe\xa7\x9a\xa0\xa0\x00\x00\x00\x00IEND\xaeB`\x82"))

type images struct {
	Created int64   `json:"created"`
	Data    []image `json:"data"`
}

type image struct {
	B64JSON string `json:"b64_json"`
}

func (c *call) images() images {
	all := images{Created: created}
	for range max(c.N, 1) {
		all.Data = append(all.Data, image{pixel})
	}
	return all
}

// message is Anthropic's.
type message struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Role         string         `json:"role"`
	Model        string         `json:"model"`
	Content      []messageBlock `json:"content"`
	StopReason   string         `json:"stop_reason"`
	StopSequence *string        `json:"stop_sequence"`
	Usage        messageUsage   `json:"usage"`
}

type messageBlock struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type messageUsage struct {
	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"`
}

func (c *call) message(p piece, used usage) message {
	reason := "end_turn"
	if p.cut {
		reason = "max_tokens"
	}
	return message{
		ID: "msg_" + c.id(), Type: "message", Role: "assistant", Model: c.Model, Content: []messageBlock{{"text", p.text}},
		StopReason: reason, Usage: messageUsage{used.PromptTokens, used.CompletionTokens},
	}
}
