package mock

import "strings"

const (
	maxTopLogprobs = 20
	// logprob is that of every token.
	logprob = -0.25
)

type chatLogprobs struct {
	Content []tokenLogprob `json:"content"`
	Refusal []tokenLogprob `json:"refusal"`
}

type tokenLogprob struct {
	Token   string       `json:"token"`
	Bytes   []int        `json:"bytes"`
	Logprob float64      `json:"logprob"`
	Top     []topLogprob `json:"top_logprobs"`
}

type topLogprob struct {
	Token   string  `json:"token"`
	Bytes   []int   `json:"bytes"`
	Logprob float64 `json:"logprob"`
}

type completionLogprobs struct {
	Tokens   []string             `json:"tokens"`
	Logprobs []float64            `json:"token_logprobs"`
	Top      []map[string]float64 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"`
}

// tokensOf cuts a text before its spaces.
func tokensOf(text string) (tokens []string) {
	for len(text) > 0 {
		end := strings.IndexByte(text[1:], ' ') + 1
		if end == 0 {
			end = len(text)
		}
		tokens, text = append(tokens, text[:end]), text[end:]
	}
	return tokens
}

// alternatives are n tokens that might have been there, the one that is first.
func alternatives(token string, n int) (tokens []topLogprob) {
	tokens = []topLogprob{}
	for i := range n {
		alternative := token + strings.Repeat("'", i)
		tokens = append(tokens, topLogprob{alternative, bytesOf(alternative), logprob - float64(i)})
	}
	return tokens
}

func chatLogprobsOf(text string, top int) *chatLogprobs {
	all := chatLogprobs{Content: []tokenLogprob{}}
	for _, token := range tokensOf(text) {
		all.Content = append(all.Content, tokenLogprob{token, bytesOf(token), logprob, alternatives(token, top)})
	}
	return &all
}

func completionLogprobsOf(text string, top int) *completionLogprobs {
	all, offset := completionLogprobs{}, 0
	for _, token := range tokensOf(text) {
		best := make(map[string]float64)
		for _, alternative := range alternatives(token, min(top, maxTopLogprobs)) {
			best[alternative.Token] = alternative.Logprob
		}
		all.Tokens, all.Logprobs = append(all.Tokens, token), append(all.Logprobs, logprob)
		all.Top, all.Offsets = append(all.Top, best), append(all.Offsets, offset)
		offset += len(token)
	}
	return &all
}

// bytesOf are the bytes of a token, as a list: encoding/json writes []byte in
// base64.
func bytesOf(token string) (list []int) {
	for _, b := range []byte(token) {
		list = append(list, int(b))
	}
	return list
}
