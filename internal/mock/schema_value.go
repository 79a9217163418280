package mock

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
)

const (
	// maxSampleItems and maxSampleBytes bound one array or object, and one text.
	maxSampleItems = 1000
	maxSampleBytes = 100_000
)

// typed makes a value by the schema's type, which what it demands tells where it
// is missing.
func (s *sampler) typed(of schema, depth int) (any, error) {
	switch kind := s.kind(of, depth); kind {
	case "object":
		return s.members(of, depth)
	case "array":
		return s.items(of, depth)
	case "string":
		return s.text(of)
	case "number", "integer":
		return s.number(of, kind == "integer")
	case "boolean":
		return s.draw(2) == 1, nil
	case "null":
		return nil, nil
	default:
		return nil, fmt.Errorf("the type %q is not known", kind)
	}
}

func (s *sampler) kind(of schema, depth int) string {
	switch kind := of["type"].(type) {
	case string:
		return kind
	case []any:
		if depth > deepSchema && slices.Contains(kind, any("null")) {
			return "null"
		}
		for _, name := range kind {
			if name, ok := name.(string); ok && (name != "null" || len(kind) == 1) {
				return name
			}
		}
	}
	for _, implied := range []struct {
		kind  string
		words []string
	}{
		{"object", []string{"properties", "required", "additionalProperties", "minProperties"}},
		{"array", []string{"items", "prefixItems", "minItems", "contains"}},
		{"number", []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}},
	} {
		for _, word := range implied.words {
			if _, found := of[word]; found {
				return implied.kind
			}
		}
	}
	return "string"
}

// members makes an object with every property, deep down with those that are
// required, and more of them where there must be more.
func (s *sampler) members(of schema, depth int) (any, error) {
	properties, _ := of["properties"].(schema)
	required := map[string]bool{}
	names, _ := of["required"].([]any)
	for _, name := range names {
		if name, ok := name.(string); ok {
			required[name] = true
		}
	}
	object := map[string]any{}
	add := func(name string, member any) error {
		value, err := s.value(member, depth+1)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		object[name] = value
		return nil
	}
	limit := count(of["maxProperties"], maxSampleItems)
	for _, name := range sortedKeys(properties) {
		if !required[name] && (depth > deepSchema || len(object)+len(required) >= limit) {
			continue
		}
		if err := add(name, properties[name]); err != nil && required[name] {
			return nil, err
		}
	}
	others, ok := of["additionalProperties"]
	if !ok {
		others = true
	}
	for _, name := range sortedKeys(required) {
		if _, found := object[name]; !found {
			if err := add(name, others); err != nil {
				return nil, err
			}
		}
	}
	for i := 0; len(object) < count(of["minProperties"], 0); i++ {
		if i > maxSampleItems {
			return nil, errNoValue
		}
		if err := add("property_"+strconv.Itoa(i), others); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// items makes an array of one element, or of as many as there must be.
func (s *sampler) items(of schema, depth int) (any, error) {
	least := count(of["minItems"], 0)
	most := count(of["maxItems"], max(least, maxSampleItems))
	prefix, _ := of["prefixItems"].([]any)
	every, ok := of["items"]
	if list, isList := every.([]any); isList { // as before 2020
		prefix, every, ok = list, of["additionalItems"], of["additionalItems"] != nil
	}
	if !ok {
		every = true
	}
	n := max(least, len(prefix))
	if depth <= deepSchema && every != false {
		n = max(n, 1)
	}
	if n = min(n, most); n > maxSampleItems || n < least {
		return nil, errNoValue
	}
	list, unique := []any{}, of["uniqueItems"] == true
	seen := map[string]bool{}
	for tries := 0; len(list) < n; tries++ {
		element := every
		if contained, found := of["contains"]; found && len(list) >= len(prefix) && len(list) < len(prefix)+count(of["minContains"], 1) {
			element = contained
		}
		if len(list) < len(prefix) {
			element = prefix[len(list)]
		}
		value, err := s.value(element, depth+1)
		if err != nil {
			if len(list) >= least && len(list) >= len(prefix) {
				return list, nil
			}
			return nil, err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		if unique && seen[string(text)] {
			if tries > 10*maxSampleItems {
				return nil, errNoValue
			}
			continue
		}
		seen[string(text)] = true
		list = append(list, value)
	}
	return list, nil
}

// number makes a number within bounds.
func (s *sampler) number(of schema, integer bool) (any, error) {
	low, lowest := bound(of, "minimum", "exclusiveMinimum")
	high, highest := bound(of, "maximum", "exclusiveMaximum")
	step := rational(of["multipleOf"])
	switch {
	case step != nil && integer:
		// A multiple of both is one of the numerator.
		step = new(big.Rat).SetInt(step.Num())
	case integer:
		step = big.NewRat(1, 1)
	case step == nil:
		step = big.NewRat(1, 4)
		if low != nil && high != nil {
			if span := new(big.Rat).Sub(high, low); span.Cmp(big.NewRat(1, 1)) < 0 && span.Sign() > 0 {
				step = span.Quo(span, big.NewRat(2, 1))
				return asNumber(low.Add(low, step)), nil
			}
		}
	}
	if step.Sign() <= 0 {
		return nil, errNoValue
	}
	start := low
	switch {
	case low == nil && high == nil:
		start = big.NewRat(int64(s.draw(100)), 1)
	case low == nil:
		start = new(big.Rat).Sub(high, new(big.Rat).Mul(step, big.NewRat(int64(2+s.draw(10)), 1)))
	}
	// The first multiple from start on.
	multiple := new(big.Rat).Quo(start, step)
	whole := new(big.Int).Div(multiple.Num(), multiple.Denom())
	if !multiple.IsInt() || low != nil && lowest {
		whole.Add(whole, big.NewInt(1))
	}
	value := new(big.Rat).Mul(new(big.Rat).SetInt(whole), step)
	for range s.draw(10) { // others, where they fit
		next := new(big.Rat).Add(value, step)
		if high != nil && next.Cmp(high) >= 0 {
			break
		}
		value = next
	}
	if high != nil && (value.Cmp(high) > 0 || highest && value.Cmp(high) == 0) {
		return nil, errNoValue
	}
	return asNumber(value), nil
}

// bound returns a limit, and whether the limit itself is excluded.
func bound(of schema, word, exclusiveWord string) (limit *big.Rat, excluded bool) {
	limit = rational(of[word])
	if of[exclusiveWord] == true { // as in draft 4
		return limit, true
	}
	exclusive := rational(of[exclusiveWord])
	if exclusive == nil {
		return limit, false
	}
	if limit == nil {
		return exclusive, true
	}
	lower := word == "minimum"
	if c := exclusive.Cmp(limit); c == 0 || (c > 0) == lower {
		return exclusive, true
	}
	return limit, false
}

// maxNumberText keeps numbers such as 1e999999999 from filling the memory.
const maxNumberText = 64

func rational(value any) *big.Rat {
	number, ok := value.(json.Number)
	if !ok || len(number) > maxNumberText {
		return nil
	}
	if f, err := number.Float64(); err != nil || f != 0 && (f > 1e30 || f < -1e30 || f < 1e-30 && f > -1e-30) {
		return nil
	}
	r, ok := new(big.Rat).SetString(string(number))
	if !ok {
		return nil
	}
	return r
}

func asNumber(r *big.Rat) json.Number {
	if r.IsInt() {
		return json.Number(r.Num().String())
	}
	digits, exact := r.FloatPrec()
	if !exact {
		digits = 12
	}
	return json.Number(r.FloatString(digits))
}

// further returns the larger of two numbers, or the smaller where sign is -1.
func further(a, b any, sign int) any {
	x, y := rational(a), rational(b)
	if x == nil || y != nil && y.Cmp(x)*sign > 0 {
		return b
	}
	return a
}

// count reads a number of things.
func count(value any, missing int) int {
	r := rational(value)
	if r == nil || !r.IsInt() || !r.Num().IsInt64() {
		return missing
	}
	return int(min(r.Num().Int64(), maxSampleBytes+1))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
