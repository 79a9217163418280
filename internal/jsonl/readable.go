package jsonl

import (
	"bytes"
	"math"
	"strconv"
)

const (
	// maxDepth leaves room for the line's own objects in readers that stop at 256
	// levels, as jq does up to 1.6; Python's json and simdjson stop near 1,000.
	maxDepth = 200
	// safeDigits are digits that no number needs more than to stay finite.
	safeDigits = 300
)

// isReadable reports whether JSON without white space is read by common readers,
// strict ones included: it is not nested too deep, and each of its numbers is
// finite as a double.
func isReadable(json []byte) bool {
	depth := 0
	for i := 0; i < len(json); {
		switch b := json[i]; {
		case b == '"':
			i += stringLength(json[i:])
			continue
		case b == '[' || b == '{':
			if depth++; depth > maxDepth {
				return false
			}
		case b == ']' || b == '}':
			depth--
		case b == '-' || b >= '0' && b <= '9':
			n := numberLength(json[i:])
			if !isFinite(json[i : i+n]) {
				return false
			}
			i += n
			continue
		}
		i++
	}
	return true
}

// stringLength returns the length of the string that valid JSON begins with.
func stringLength(json []byte) int {
	for i := 1; ; {
		next := bytes.IndexAny(json[i:], "\"\\")
		if next < 0 {
			return len(json)
		}
		i += next
		if json[i] == '"' {
			return i + 1
		}
		i += 2
	}
}

// numberLength returns the length of the number that valid JSON begins with.
func numberLength(json []byte) int {
	for i, b := range json {
		if (b < '0' || b > '9') && b != '-' && b != '+' && b != '.' && b != 'e' && b != 'E' {
			return i
		}
	}
	return len(json)
}

func isFinite(number []byte) bool {
	exponent := bytes.IndexAny(number, "eE")
	if exponent < 0 && len(number) <= safeDigits {
		return true
	}
	f, _ := strconv.ParseFloat(string(number), 64) // its only error here is the range, and then f is infinite
	return !math.IsInf(f, 0)
}
