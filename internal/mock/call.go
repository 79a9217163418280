package mock

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

type endpoint int

const (
	chatCompletionsEndpoint endpoint = iota
	completionsEndpoint
	responsesEndpoint
	embeddingsEndpoint
	moderationsEndpoint
	imagesEndpoint
	messagesEndpoint
	rerankEndpoint
	scoreEndpoint
	classifyEndpoint
	poolingEndpoint
)

const (
	defaultDimensions = 32
	maxDimensions     = 4096
	maxInputs         = 2048
	maxChoices        = 128
)

// moderationModel is the model of moderations that name none.
const moderationModel = "omni-moderation-latest"

// call is one request to a model, read and checked.
type call struct {
	endpoint  endpoint
	customID  string
	bodyBytes int
	draw      draw
	number    int64 // how often the custom id was called before
	behavior  askedBehavior

	asked
}

// asked are the members of a body that change the answer.
type asked struct {
	Model               string          `json:"model"`
	Stream              bool            `json:"stream"`
	StreamOptions       streamOptions   `json:"stream_options"`
	Input               json.RawMessage `json:"input"`
	Dimensions          int             `json:"dimensions"`
	EncodingFormat      string          `json:"encoding_format"`
	N                   int             `json:"n"`
	MaxTokens           int             `json:"max_tokens"`
	MaxCompletionTokens int             `json:"max_completion_tokens"`
	MaxOutputTokens     int             `json:"max_output_tokens"`
	ResponseFormat      json.RawMessage `json:"response_format"`
	Text                json.RawMessage `json:"text"`
	Tools               []tool          `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	Logprobs            json.RawMessage `json:"logprobs"`
	TopLogprobs         int             `json:"top_logprobs"`
	Documents           json.RawMessage `json:"documents"`
	Text2               json.RawMessage `json:"text_2"`
	Data2               json.RawMessage `json:"data_2"`
	Items               json.RawMessage `json:"items"`
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBytes keeps one large body from staying in memory.
const maxPooledBytes = 1 << 20

var errClientGone = errors.New("the client went away")

// readCall reads a request. The error is errClientGone or meant for the
// client.
func (s *Server) readCall(w http.ResponseWriter, r *http.Request, e endpoint) (*call, error) {
	body := bodies.Get().(*bytes.Buffer)
	body.Reset()
	defer func() {
		if body.Cap() <= maxPooledBytes {
			bodies.Put(body)
		}
	}()
	source := io.Reader(r.Body)
	if r.ContentLength < 0 || r.ContentLength > maxRequestBytes {
		source = http.MaxBytesReader(w, r.Body, maxRequestBytes)
	}
	if _, err := body.ReadFrom(source); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return nil, fmt.Errorf("the body is longer than %d bytes", tooLarge.Limit)
		}
		return nil, errClientGone
	}
	c := &call{endpoint: e, customID: r.Header.Get("X-Fusillade-Custom-Id"), bodyBytes: body.Len()}
	if err := c.decode(body.Bytes()); err != nil {
		return nil, fmt.Errorf("the body is not the JSON object that is expected: %w", err)
	}
	c.behavior = findBehavior(body.Bytes())
	if c.behavior.name != "" {
		if _, err := behaviorNamed(c.behavior.name); err != nil {
			return nil, err
		}
	}
	if e == moderationsEndpoint {
		c.Model = cmp.Or(c.Model, moderationModel)
	}
	switch {
	case c.Model == "":
		return nil, errors.New("model is missing")
	case c.Dimensions < 0 || c.Dimensions > maxDimensions:
		return nil, fmt.Errorf("dimensions is %d: want 1 to %d", c.Dimensions, maxDimensions)
	case c.N < 0 || c.N > maxChoices:
		return nil, fmt.Errorf("n is %d: want 1 to %d", c.N, maxChoices)
	case min(c.MaxTokens, c.MaxCompletionTokens, c.MaxOutputTokens) < 0:
		return nil, errors.New("max_tokens, max_completion_tokens and max_output_tokens must be 1 or more")
	case c.TopLogprobs < 0 || c.TopLogprobs > maxTopLogprobs:
		return nil, fmt.Errorf("top_logprobs is %d: want 0 to %d", c.TopLogprobs, maxTopLogprobs)
	case e == rerankEndpoint && len(textsOf(c.Documents)) == 0:
		return nil, errors.New("documents: want a list of texts")
	case (e == embeddingsEndpoint || e == moderationsEndpoint || e == classifyEndpoint) && (c.inputs() < 1 || c.inputs() > maxInputs):
		return nil, fmt.Errorf("input: want a string, tokens, or a list of 1 to %d of them", maxInputs)
	}
	if c.customID == "" {
		c.draw = newDraw(s.seed, body.Bytes()).numbered(s.models.get(c.Model).calls.Load())
		return c, nil
	}
	c.draw = newDraw(s.seed, c.customID)
	c.number = s.callNumber(r, c)
	c.draw = c.draw.numbered(c.number)
	return c, nil
}

// decode reads the members that change the answer and skips over the others: to
// decode a long prompt would cost more than the rest of the call.
func (c *call) decode(body []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	first, err := d.ReadToken()
	if err != nil {
		return err
	}
	if first.Kind() != jsontext.KindBeginObject {
		return errors.New("it is no object")
	}
	members := []byte{'{'}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		if !askedNames[key] {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if len(members) > 1 {
			members = append(members, ',')
		}
		members = append(append(append(append(members, '"'), key...), `":`...), value...)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	return json.Unmarshal(append(members, '}'), &c.asked)
}

var askedNames = func() map[string]bool {
	names := make(map[string]bool)
	for field := range reflect.TypeFor[asked]().Fields() {
		names[field.Tag.Get("json")] = true
	}
	return names
}()

// callNumber returns how often the custom id was called before; or else which
// attempt this is, if the client says so.
func (s *Server) callNumber(r *http.Request, c *call) int64 {
	if s.recordCustomIDs {
		if n, ok := s.customIDs.next(c.customID, c.draw.identity); ok {
			return n
		}
	}
	attempt, err := strconv.ParseInt(r.Header.Get("X-Fusillade-Attempt"), 10, 64)
	if err != nil {
		return 0
	}
	return attempt
}

// inputs returns how many embeddings the call asks for.
func (c *call) inputs() int {
	input := bytes.TrimSpace(c.Input)
	if len(input) == 0 || input[0] != '[' {
		return min(len(input), 1)
	}
	var list []json.RawMessage
	if json.Unmarshal(input, &list) != nil || len(list) == 0 {
		return 0
	}
	if first := list[0][0]; first == '"' || first == '[' || first == '{' {
		return len(list)
	}
	return 1 // one text, given as tokens
}

func (c *call) dimensions() int {
	if c.Dimensions == 0 {
		return defaultDimensions
	}
	return c.Dimensions
}
