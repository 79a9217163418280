package mock

import "encoding/json"

type chatCompletion struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   usage        `json:"usage"`
}

type chatChoice struct {
	Index        int           `json:"index"`
	Message      chatMessage   `json:"message"`
	Logprobs     *chatLogprobs `json:"logprobs"`
	FinishReason string        `json:"finish_reason"`
}

type chatMessage struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"`
	Refusal   *string    `json:"refusal"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
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
	Index        int                 `json:"index"`
	Text         string              `json:"text"`
	Logprobs     *completionLogprobs `json:"logprobs"`
	FinishReason string              `json:"finish_reason"`
}

func (c *call) chatCompletion(pieces []piece, used usage) chatCompletion {
	answer := chatCompletion{ID: "chatcmpl-" + c.id(), Object: "chat.completion", Created: created, Model: c.Model, Usage: used}
	logprobs := string(c.Logprobs) == "true"
	for i, p := range pieces {
		choice := chatChoice{Index: i, Message: chatMessage{Role: "assistant"}, FinishReason: p.finishReason()}
		if p.tool != nil {
			choice.Message.ToolCalls = []toolCall{*p.tool}
		} else {
			choice.Message.Content = &p.text
		}
		if logprobs && p.tool == nil {
			choice.Logprobs = chatLogprobsOf(p.text, c.TopLogprobs)
		}
		answer.Choices = append(answer.Choices, choice)
	}
	return answer
}

func (c *call) completion(pieces []piece, used usage) completion {
	answer := completion{ID: "cmpl-" + c.id(), Object: "text_completion", Created: created, Model: c.Model, Usage: used}
	var top int
	logprobs := json.Unmarshal(c.Logprobs, &top) == nil && string(c.Logprobs) != "null"
	for i, p := range pieces {
		choice := completionChoice{Index: i, Text: p.text, FinishReason: p.finishReason()}
		if logprobs {
			choice.Logprobs = completionLogprobsOf(p.text, top)
		}
		answer.Choices = append(answer.Choices, choice)
	}
	return answer
}
