package mock

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// piece is what one choice of an answer holds: a text or a call of a tool.
type piece struct {
	text   string
	tool   *toolCall
	tokens int
	cut    bool // by the most tokens that the call asks for
}

func (p piece) finishReason() string {
	switch {
	case p.tool != nil:
		return "tool_calls"
	case p.cut:
		return "length"
	}
	return "stop"
}

// tool is a function that a model may call. Chat completions have its name and
// parameters within function, responses beside the type.
type tool struct {
	function
	Type     string    `json:"type"`
	Function *function `json:"function,omitempty"`
}

type function struct {
	Name        string          `json:"name,omitempty"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

func (t tool) definition() function {
	if t.Function != nil {
		return *t.Function
	}
	return t.function
}

type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function calledByName `json:"function"`
}

type calledByName struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// write makes the choice with an index.
func (s *Server) write(c *call, index int) (piece, error) {
	chosen, err := c.chosenTool()
	if err != nil {
		return piece{}, err
	}
	if chosen != nil {
		arguments, err := c.valueFor(chosen.Parameters, index)
		if err != nil {
			return piece{}, fmt.Errorf("tools: parameters of %q: %w", chosen.Name, err)
		}
		call := toolCall{ID: "call_" + c.id() + strconv.Itoa(index), Type: "function", Function: calledByName{chosen.Name, arguments}}
		return piece{tool: &call, tokens: 1 + len(arguments)/bytesPerToken}, nil
	}
	format, err := c.format()
	if err != nil {
		return piece{}, err
	}
	p := piece{tokens: s.words.perAnswer}
	switch format.Type {
	case "json_schema":
		if p.text, err = c.valueFor(format.Schema, index); err != nil {
			return piece{}, fmt.Errorf("response format: %w", err)
		}
		p.tokens = 1 + len(p.text)/bytesPerToken
	case "json_object":
		text, _ := json.Marshal(map[string]string{"answer": s.words.text(c, index)}) // strings can be encoded
		p.text = string(text)
	case "", "text":
		p.text = s.words.text(c, index)
	default:
		return piece{}, fmt.Errorf("response format: the type %q is not known", format.Type)
	}
	p.limit(c.maxOutput())
	return p, nil
}

// limit cuts a text to a number of tokens; 0: it stays whole.
func (p *piece) limit(tokens int) {
	if tokens == 0 || tokens >= p.tokens {
		return
	}
	words := tokensOf(p.text)
	if len(words) > tokens {
		p.text = strings.Join(words[:tokens], "")
	} else {
		p.text = strings.ToValidUTF8(p.text[:len(p.text)*tokens/p.tokens], "") // JSON has few spaces
	}
	p.tokens, p.cut = tokens, true
}

// format is what a call wants its text to be.
type format struct {
	Type   string          `json:"type"`
	Schema json.RawMessage `json:"schema"`
}

// format reads response_format, or text.format of responses.
func (c *call) format() (format, error) {
	var wanted struct {
		format
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	}
	if c.endpoint == responsesEndpoint {
		var text struct {
			Format format `json:"format"`
		}
		if len(c.Text) == 0 {
			return format{}, nil
		}
		if err := json.Unmarshal(c.Text, &text); err != nil {
			return format{}, fmt.Errorf("text: %w", err)
		}
		wanted.format = text.Format
	} else if len(c.ResponseFormat) > 0 {
		if err := json.Unmarshal(c.ResponseFormat, &wanted); err != nil {
			return format{}, fmt.Errorf("response_format: %w", err)
		}
		if len(wanted.JSONSchema.Schema) > 0 {
			wanted.Schema = wanted.JSONSchema.Schema
		}
	}
	return wanted.format, nil
}

// chosenTool returns the function that the call makes the model use: the one
// that tool_choice names, or the first where one is required; nil: none.
func (c *call) chosenTool() (*function, error) {
	if len(c.ToolChoice) == 0 || string(c.ToolChoice) == "null" {
		return nil, nil
	}
	var mode string
	if json.Unmarshal(c.ToolChoice, &mode) == nil {
		if mode != "required" {
			return nil, nil
		}
		if len(c.Tools) == 0 {
			return nil, errors.New("tool_choice: required, and there are no tools")
		}
		first := c.Tools[0].definition()
		return &first, nil
	}
	var named tool
	if err := json.Unmarshal(c.ToolChoice, &named); err != nil {
		return nil, fmt.Errorf("tool_choice: %w", err)
	}
	for _, t := range c.Tools {
		if defined := t.definition(); defined.Name == named.definition().Name {
			return &defined, nil
		}
	}
	return nil, fmt.Errorf("tool_choice: there is no tool named %q", named.definition().Name)
}
