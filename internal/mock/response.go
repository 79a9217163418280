package mock

import "encoding/json"

type response struct {
	ID                 string           `json:"id"`
	Object             string           `json:"object"`
	CreatedAt          int64            `json:"created_at"`
	Status             string           `json:"status"`
	Error              any              `json:"error"`
	IncompleteDetails  any              `json:"incomplete_details"`
	Instructions       any              `json:"instructions"`
	MaxOutputTokens    *int             `json:"max_output_tokens"`
	Metadata           map[string]any   `json:"metadata"`
	Model              string           `json:"model"`
	Output             []responseOutput `json:"output"`
	ParallelToolCalls  bool             `json:"parallel_tool_calls"`
	PreviousResponseID *string          `json:"previous_response_id"`
	Temperature        float64          `json:"temperature"`
	Text               any              `json:"text"`
	ToolChoice         any              `json:"tool_choice"`
	Tools              []tool           `json:"tools"`
	TopP               float64          `json:"top_p"`
	Truncation         string           `json:"truncation"`
	Usage              responseUsage    `json:"usage"`
}

// responseOutput is a message, or a call of a function.
type responseOutput struct {
	ID        string            `json:"id"`
	Type      string            `json:"type"`
	Status    string            `json:"status"`
	Role      string            `json:"role,omitempty"`
	Content   []responseContent `json:"content,omitempty"`
	CallID    string            `json:"call_id,omitempty"`
	Name      string            `json:"name,omitempty"`
	Arguments string            `json:"arguments,omitempty"`
}

type responseContent struct {
	Type        string `json:"type"`
	Text        string `json:"text"`
	Annotations []any  `json:"annotations"`
	Logprobs    []any  `json:"logprobs"`
}

type responseUsage struct {
	InputTokens   int                 `json:"input_tokens"`
	InputDetails  responseInputUsage  `json:"input_tokens_details"`
	OutputTokens  int                 `json:"output_tokens"`
	OutputDetails responseOutputUsage `json:"output_tokens_details"`
	TotalTokens   int                 `json:"total_tokens"`
}

type responseInputUsage struct {
	CachedTokens     int `json:"cached_tokens"`
	CacheWriteTokens int `json:"cache_write_tokens"`
}

type responseOutputUsage struct {
	ReasoningTokens int `json:"reasoning_tokens"`
}

func (c *call) response(p piece, used usage) response {
	answer := response{
		ID: "resp_" + c.id(), Object: "response", CreatedAt: created, Status: "completed", Model: c.Model,
		Metadata: map[string]any{}, ParallelToolCalls: true, Temperature: 1, TopP: 1, Truncation: "disabled",
		Text: map[string]any{"format": map[string]any{"type": "text"}}, ToolChoice: "auto", Tools: []tool{},
		Usage: responseUsage{InputTokens: used.PromptTokens, OutputTokens: used.CompletionTokens, TotalTokens: used.TotalTokens},
	}
	if c.MaxOutputTokens > 0 {
		answer.MaxOutputTokens = &c.MaxOutputTokens
	}
	if len(c.Text) > 0 {
		answer.Text = c.Text
	}
	if len(c.ToolChoice) > 0 {
		answer.ToolChoice = c.ToolChoice
	}
	if len(c.Tools) > 0 {
		answer.Tools = c.Tools
	}
	if p.tool != nil {
		answer.Output = []responseOutput{{
			ID: "fc_" + c.id(), Type: "function_call", Status: "completed", CallID: p.tool.ID, Name: p.tool.Function.Name, Arguments: p.tool.Function.Arguments,
		}}
		return answer
	}
	status := "completed"
	if p.cut {
		status = "incomplete"
		answer.Status, answer.IncompleteDetails = status, json.RawMessage(`{"reason":"max_output_tokens"}`)
	}
	answer.Output = []responseOutput{{
		ID: "msg_" + c.id(), Type: "message", Status: status, Role: "assistant",
		Content: []responseContent{{Type: "output_text", Text: p.text, Annotations: []any{}, Logprobs: []any{}}},
	}}
	return answer
}
