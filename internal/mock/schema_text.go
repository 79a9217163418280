package mock

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

const (
	fillWord = "lorem ipsum "
	// maxRepeats bounds how often a part of a pattern is repeated to reach a
	// length, and how large a pattern's text grows.
	maxRepeats = 64
)

// text makes a string by pattern, format and length.
func (s *sampler) text(of schema) (any, error) {
	least := count(of["minLength"], 0)
	most := count(of["maxLength"], max(least, maxSampleBytes))
	if least > most || least > maxSampleBytes {
		return nil, errNoValue
	}
	if pattern, ok := of["pattern"].(string); ok {
		return s.matching(pattern, least, most)
	}
	format, _ := of["format"].(string)
	if text := s.formatted(format, most); text != "" {
		return text, nil
	}
	text := []string{"alpha", "beta", "gamma", "delta", "epsilon"}[s.draw(5)]
	if s.draw(3) == 0 && most > 20 {
		text += fmt.Sprintf(" %d", s.draw(1000))
	}
	if len(text) < least {
		text += strings.Repeat(fillWord, (least-len(text))/len(fillWord)+1)[:least-len(text)]
	}
	return text[:min(len(text), most)], nil
}

// formatted returns a text of a format; empty: the format is not known.
func (s *sampler) formatted(format string, most int) string {
	n := s.draw(28) + 1
	switch format {
	case "date-time":
		return fmt.Sprintf("2026-01-%02dT12:30:00Z", n)
	case "date":
		return fmt.Sprintf("2026-01-%02d", n)
	case "time":
		return fmt.Sprintf("12:%02d:00Z", n)
	case "duration":
		return fmt.Sprintf("P%dD", n)
	case "email", "idn-email":
		if most < len("person00@example.com") {
			return "a@b.de"
		}
		return fmt.Sprintf("person%d@example.com", n)
	case "hostname", "idn-hostname":
		return fmt.Sprintf("host%d.example", n)
	case "ipv4":
		return fmt.Sprintf("192.0.2.%d", n)
	case "ipv6":
		return fmt.Sprintf("2001:db8::%x", n)
	case "uuid":
		return fmt.Sprintf("%08x-0000-4000-8000-%012x", s.draw(1<<30), n)
	case "uri", "iri", "url":
		return fmt.Sprintf("https://example.com/%d", n)
	case "uri-reference", "iri-reference", "json-pointer":
		return fmt.Sprintf("/path/%d", n)
	case "uri-template":
		return "https://example.com/{id}"
	case "relative-json-pointer":
		return "0/path"
	case "regex":
		return "^[a-z]+$"
	case "byte", "base64":
		return base64.StdEncoding.EncodeToString([]byte("some bytes"))
	}
	return ""
}

// matching makes a string that matches a pattern and has a length.
func (s *sampler) matching(pattern string, least, most int) (any, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q is beyond what is played: %w", pattern, err)
	}
	matches, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q: %w", pattern, err)
	}
	parsed = parsed.Simplify()
	for repeats := 0; repeats <= maxRepeats; repeats++ {
		var text strings.Builder
		s.write(&text, parsed, repeats)
		candidate := text.String()
		if n := utf8.RuneCountInString(candidate); n < least && !anchored(pattern) {
			candidate += strings.Repeat("a", least-n)
		}
		if n := utf8.RuneCountInString(candidate); n >= least && n <= most && matches.MatchString(candidate) {
			return candidate, nil
		}
	}
	return nil, fmt.Errorf("the pattern %q: %w", pattern, errNoValue)
}

func anchored(pattern string) bool { return strings.HasSuffix(pattern, "$") }

// write appends a text that matches an expression; what may be repeated without
// end is repeated so often.
func (s *sampler) write(text *strings.Builder, e *syntax.Regexp, repeats int) {
	if text.Len() > maxSampleBytes {
		return
	}
	switch e.Op {
	case syntax.OpLiteral:
		for _, r := range e.Rune {
			text.WriteRune(r)
		}
	case syntax.OpCharClass:
		text.WriteRune(s.ofClass(e.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		text.WriteByte("abcdefghij"[s.draw(10)])
	case syntax.OpCapture:
		s.write(text, e.Sub[0], repeats)
	case syntax.OpConcat:
		for _, part := range e.Sub {
			s.write(text, part, repeats)
		}
	case syntax.OpAlternate:
		s.write(text, e.Sub[s.draw(len(e.Sub))], repeats)
	case syntax.OpStar:
		for range repeats {
			s.write(text, e.Sub[0], 1)
		}
	case syntax.OpPlus:
		for range repeats + 1 {
			s.write(text, e.Sub[0], 1)
		}
	case syntax.OpQuest:
		if repeats > 0 {
			s.write(text, e.Sub[0], repeats)
		}
	}
}

// ofClass takes a character of a class, a printable one of ASCII if there is one.
func (s *sampler) ofClass(pairs []rune) rune {
	var printable []rune
	for i := 0; i+1 < len(pairs); i += 2 {
		for r := max(pairs[i], '!'); r <= min(pairs[i+1], '~'); r++ {
			printable = append(printable, r)
		}
	}
	if len(printable) > 0 {
		return printable[s.draw(len(printable))]
	}
	if len(pairs) == 0 {
		return 'a'
	}
	return pairs[0]
}
