package mock

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What the mock answers is valid for the schema that was asked for, by the
// judgement of a library for JSON schemas.
func TestStructuredOutputs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, text := range []string{
		`{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}`,
		`{"type":"object","properties":{"colour":{"enum":["red","green",null]},"kind":{"const":"x"},"ok":{"type":"boolean"},"none":{"type":"null"}},"required":["colour","kind","ok","none"],"additionalProperties":false}`,
		`{"type":"object","properties":{"a":{"type":["string","null"]},"b":{"anyOf":[{"type":"integer"},{"type":"null"}]}},"required":["a","b"]}`,
		`{"$defs":{"step":{"type":"object","properties":{"explanation":{"type":"string"},"output":{"type":"string"}},"required":["explanation","output"],"additionalProperties":false}},
		  "type":"object","properties":{"steps":{"type":"array","items":{"$ref":"#/$defs/step"},"minItems":3,"maxItems":5},"answer":{"$ref":"#/$defs/step"}},"required":["steps","answer"],"additionalProperties":false}`,
		`{"definitions":{"a/b~c":{"type":"string","minLength":30,"maxLength":31}},"type":"object","properties":{"x":{"$ref":"#/definitions/a~1b~0c"}},"required":["x"]}`,
		`{"type":"object","properties":{"value":{"type":"number"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["value","next"],"additionalProperties":false}`,
		`{"$defs":{"node":{"type":"object","properties":{"label":{"type":"string"},"children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["label","children"],"additionalProperties":false}},"$ref":"#/$defs/node"}`,
		`{"$defs":{"tree":{"anyOf":[{"type":"object","properties":{"left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#/$defs/tree"}},"required":["left","right"],"additionalProperties":false},{"type":"string"}]}},"type":"object","properties":{"tree":{"$ref":"#/$defs/tree"}},"required":["tree"]}`,
		`{"type":"object","properties":{"n":{"type":"integer","minimum":5,"maximum":7},"m":{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1},"o":{"type":"integer","multipleOf":7,"minimum":50},"p":{"type":"number","multipleOf":0.05,"maximum":-1},"q":{"type":"integer","exclusiveMinimum":3,"exclusiveMaximum":5}},"required":["n","m","o","p","q"]}`,
		`{"type":"number","minimum":0.1,"maximum":0.2}`,
		`{"type":"integer","minimum":-3,"maximum":-3}`,
		`{"type":"object","properties":{
		  "dt":{"type":"string","format":"date-time"},"d":{"type":"string","format":"date"},"t":{"type":"string","format":"time"},"du":{"type":"string","format":"duration"},
		  "e":{"type":"string","format":"email"},"h":{"type":"string","format":"hostname"},"v4":{"type":"string","format":"ipv4"},"v6":{"type":"string","format":"ipv6"},
		  "u":{"type":"string","format":"uuid"},"uri":{"type":"string","format":"uri"}},"required":["dt","d","t","du","e","h","v4","v6","u","uri"]}`,
		`{"type":"object","properties":{"zip":{"type":"string","pattern":"^\\d{5}(-\\d{4})?$"},"user":{"type":"string","pattern":"^@[a-zA-Z0-9_]+$"},"id":{"type":"string","pattern":"^(ab|cd)[^x]{2,4}\\.$"},"word":{"type":"string","pattern":"foo","minLength":10},"many":{"type":"string","pattern":"^[a-f]*$","minLength":12,"maxLength":20}},"required":["zip","user","id","word","many"]}`,
		`{"type":"array","items":{"type":"string","enum":["a","b","c"]},"minItems":3,"uniqueItems":true}`,
		`{"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false,"minItems":2}`,
		`{"type":"array","items":{"type":"integer"},"contains":{"const":42},"minItems":2}`,
		`{"allOf":[{"type":"object","properties":{"a":{"type":"string","minLength":3}},"required":["a"]},{"properties":{"a":{"maxLength":3},"b":{"type":"integer"}},"required":["b"]}]}`,
		`{"oneOf":[{"type":"object","properties":{"kind":{"const":"cat"},"lives":{"type":"integer"}},"required":["kind","lives"],"additionalProperties":false},{"type":"object","properties":{"kind":{"const":"dog"}},"required":["kind"],"additionalProperties":false}]}`,
		`{"type":"object","additionalProperties":{"type":"integer"},"minProperties":3,"maxProperties":3}`,
		`{"type":"object","required":["x","y"],"additionalProperties":{"type":"string"}}`,
		`{"properties":{"deep":{"properties":{"deeper":{"properties":{"deepest":{"items":{"properties":{"end":{"type":"boolean"}},"required":["end"]},"minItems":1}},"required":["deepest"]}},"required":["deeper"]}},"required":["deep"]}`,
		`{"type":"object","properties":{"a":{"type":"string","maxLength":2},"b":{"type":"string","minLength":500}},"required":["a","b"]}`,
		`true`, `{}`,
	} {
		compiled := compile(t, text)
		for i := range 20 {
			for path, body := range map[string]string{
				"/v1/chat/completions": `{"model":"m","messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + text + `}}}`,
				"/v1/responses":        `{"model":"m","input":"?","text":{"format":{"type":"json_schema","name":"x","strict":true,"schema":` + text + `}}}`,
			} {
				status, _, answer := f.must(t, "POST", path, fmt.Sprint("id-", i), body)
				if status != 200 {
					t.Fatalf("%s: status %d: %s", text, status, answer)
				}
				value, err := jsonschema.UnmarshalJSON(strings.NewReader(contentOf(t, answer)))
				if err == nil {
					err = compiled.Validate(value)
				}
				if err != nil {
					t.Fatalf("%s\ngot %s\n%v", text, contentOf(t, answer), err)
				}
			}
		}
	}
}

func compile(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// contentOf is the text of an answer's first choice, or of a response.
func contentOf(t *testing.T, answer []byte) string {
	t.Helper()
	var of struct {
		Choices []chatChoice
		Output  []responseOutput
	}
	if err := json.Unmarshal(answer, &of); err != nil {
		t.Fatal(err)
	}
	if len(of.Choices) > 0 {
		return *of.Choices[0].Message.Content
	}
	return of.Output[0].Content[0].Text
}

// Schemas without a value that can be found are refused, in bounded time.
func TestSchemasWithoutAValue(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for text, want := range map[string]string{
		`false`:        "no value is valid",
		`{"enum":[]}`:  "no value is valid",
		`{"$ref":"#"}`: "very deep",
		`{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}},"required":["a","b"]}`: "the schema",
		`{"$ref":"https://example.com/x"}`:                                     "only references within",
		`{"$ref":"#/$defs/none"}`:                                              "there is nothing",
		`{"type":"string","pattern":"(?=x)y"}`:                                 "beyond what is played",
		`{"type":"integer","minimum":5,"maximum":4}`:                           "no value is valid",
		`{"type":"string","minLength":9,"maxLength":8}`:                        "no value is valid",
		`{"type":"string","minLength":1e12}`:                                   "no value is valid",
		`{"type":"array","minItems":1000000000}`:                               "no value is valid",
		`{"type":"array","items":{"const":1},"uniqueItems":true,"minItems":2}`: "no value is valid",
		`{"type":"widget"}`:                                                    "not known",
		`[]`:                                                                   "no schema",
		`{"allOf":[{"$ref":"#/allOf/0"}]}`:                                     "too large",
	} {
		status, _, answer := f.must(t, "POST", "/v1/chat/completions", "id",
			`{"model":"m","response_format":{"type":"json_schema","json_schema":{"schema":`+text+`}}}`)
		if got := decode[errorBody](t, answer); status != 400 || !strings.Contains(got.Error.Message, want) {
			t.Errorf("%s: status %d: %s, want %q", text, status, got.Error.Message, want)
		}
	}
}
