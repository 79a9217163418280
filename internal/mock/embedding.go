package mock

import (
	"encoding/base64"
	"encoding/binary"
	"math"
)

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

func (c *call) embeddings() embeddings {
	prompt := c.bodyBytes / bytesPerToken
	list := embeddings{Object: "list", Model: c.Model, Usage: embeddingUsage{prompt, prompt}}
	for i := range c.inputs() {
		list.Data = append(list.Data, embedding{Object: "embedding", Index: i, Embedding: c.vector(i)})
	}
	return list
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
