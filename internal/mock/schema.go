package mock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxSchemaSteps bounds the work on one schema, also where it refers to
	// itself in several places.
	maxSchemaSteps = 20_000
	// deepSchema is the depth beyond which values are as short as the schema
	// lets them be, so that those of a schema that refers to itself end.
	deepSchema = 4
	// maxSchemaDepth is below what strict readers of JSON take.
	maxSchemaDepth = 64
)

var (
	errSchemaSteps = errors.New("the schema is too large")
	errSchemaDepth = errors.New("the schema has no finite value, or only very deep ones")
	errNoValue     = errors.New("no value is valid")
)

// schema is a JSON schema, decoded.
type schema = map[string]any

// sampler makes a value for a JSON schema: what OpenAI's structured outputs
// allow, and most of what is beyond: enum, const, anyOf, oneOf, allOf, $ref,
// formats, patterns and bounds. not and if are ignored.
type sampler struct {
	root  any
	state uint64
	steps int
}

// valueFor returns a JSON text for a schema; without one, an empty object. Equal
// calls have equal values, and the choices of one call different ones where the
// schema lets them.
func (c *call) valueFor(raw json.RawMessage, choice int) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "{}", nil
	}
	var root any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&root); err != nil {
		return "", fmt.Errorf("schema: %w", err)
	}
	s := sampler{root: root, state: c.draw.perID(forValue) + uint64(choice)}
	value, err := s.value(root, 0)
	if err != nil {
		return "", fmt.Errorf("schema: %w", err)
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func (s *sampler) draw(n int) int {
	s.state = mix(s.state)
	return int(s.state % uint64(n))
}

func (s *sampler) value(of any, depth int) (any, error) {
	if s.steps++; s.steps > maxSchemaSteps {
		return nil, errSchemaSteps
	}
	if depth > maxSchemaDepth {
		return nil, errSchemaDepth
	}
	switch of := of.(type) {
	case bool:
		if !of {
			return nil, errNoValue
		}
		return "any", nil
	case schema:
		return s.object(of, depth)
	}
	return nil, fmt.Errorf("%T is no schema", of)
}

// object makes a value for a schema that is an object.
func (s *sampler) object(of schema, depth int) (any, error) {
	if reference, ok := of["$ref"].(string); ok {
		target, err := s.resolve(reference)
		if err != nil {
			return nil, err
		}
		others := maps.Clone(of)
		delete(others, "$ref")
		if into, ok := target.(schema); ok {
			return s.value(merge(into, others), depth+1)
		}
		return s.value(target, depth+1)
	}
	if value, ok := of["const"]; ok {
		return value, nil
	}
	if values, ok := of["enum"].([]any); ok {
		if len(values) == 0 {
			return nil, errNoValue
		}
		return values[s.draw(len(values))], nil
	}
	if parts, ok := of["allOf"].([]any); ok {
		whole := maps.Clone(of)
		delete(whole, "allOf")
		for _, part := range parts {
			if part, err := s.dereferenced(part); err != nil {
				return nil, err
			} else if part != nil {
				whole = merge(whole, part)
			}
		}
		return s.value(whole, depth+1)
	}
	for _, word := range []string{"anyOf", "oneOf"} {
		if branches, ok := of[word].([]any); ok {
			return s.branch(of, word, branches, depth)
		}
	}
	return s.typed(of, depth)
}

// branch takes one of several schemas. Deep down those come first that end soonest.
func (s *sampler) branch(of schema, word string, branches []any, depth int) (any, error) {
	others := maps.Clone(of)
	delete(others, word)
	order := slices.Clone(branches)
	if depth > deepSchema {
		slices.SortStableFunc(order, func(a, b any) int { return weight(a) - weight(b) })
	} else if n := len(order); n > 1 {
		first := s.draw(n)
		order = slices.Concat(order[first:], order[:first])
	}
	err := errNoValue
	for _, branch := range order {
		var value any
		if into, ok := branch.(schema); ok {
			branch = merge(into, others)
		}
		if value, err = s.value(branch, depth+1); err == nil || errors.Is(err, errSchemaSteps) {
			return value, err
		}
	}
	return nil, err
}

// weight orders schemas by how soon their values end.
func weight(of any) int {
	object, ok := of.(schema)
	switch {
	case !ok:
		return 0
	case object["$ref"] != nil:
		return 3
	case object["properties"] != nil || object["anyOf"] != nil || object["oneOf"] != nil || object["allOf"] != nil:
		return 2
	case object["items"] != nil:
		return 1
	}
	return 0
}

// resolve finds what a reference within the schema names.
func (s *sampler) resolve(reference string) (any, error) {
	path, found := strings.CutPrefix(reference, "#")
	if !found {
		return nil, fmt.Errorf("$ref %q: only references within the schema are followed", reference)
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return nil, fmt.Errorf("$ref %q: %w", reference, err)
	}
	at := s.root
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if path == "" {
			break
		}
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch here := at.(type) {
		case schema:
			at, found = here[part]
		case []any:
			i, err := strconv.Atoi(part)
			if found = err == nil && i >= 0 && i < len(here); found {
				at = here[i]
			}
		default:
			found = false
		}
		if !found {
			return nil, fmt.Errorf("$ref %q: there is nothing", reference)
		}
	}
	return at, nil
}

// dereferenced follows references until there is none; nil: true, which demands
// nothing.
func (s *sampler) dereferenced(of any) (schema, error) {
	for {
		if s.steps++; s.steps > maxSchemaSteps {
			return nil, errSchemaSteps
		}
		object, ok := of.(schema)
		if !ok {
			if of == false {
				return nil, errNoValue
			}
			return nil, nil
		}
		reference, ok := object["$ref"].(string)
		if !ok {
			return object, nil
		}
		target, err := s.resolve(reference)
		if err != nil {
			return nil, err
		}
		of = target
	}
}

// merge returns the schema that demands what both do, as far as one schema can
// say it.
func merge(a, b schema) schema {
	out := maps.Clone(a)
	for word, value := range b {
		before, both := out[word]
		if !both {
			out[word] = value
			continue
		}
		switch word {
		case "properties", "$defs", "definitions", "patternProperties":
			old, okOld := before.(schema)
			more, okMore := value.(schema)
			if !okOld || !okMore {
				continue
			}
			members := maps.Clone(old)
			for name, member := range more {
				one, okOne := members[name].(schema)
				other, okOther := member.(schema)
				if okOne && okOther {
					member = merge(one, other)
				}
				members[name] = member
			}
			out[word] = members
		case "required":
			old, _ := before.([]any)
			more, _ := value.([]any)
			out[word] = slices.Concat(old, more)
		case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties":
			out[word] = further(before, value, 1)
		case "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
			out[word] = further(before, value, -1)
		case "anyOf", "oneOf", "allOf":
			rest, _ := out["allOf"].([]any)
			out["allOf"] = append(slices.Clone(rest), schema{word: value})
		default:
			out[word] = value
		}
	}
	return out
}
