package upstream

import "strings"

const (
	maxFinishReasons     = 8
	maxFinishReasonBytes = 64
)

// FinishReasons returns why generation ended, as an answer says: of each of its
// choices, of which the first eight count; or its stop_reason, or its status. What is
// no word is "other".
func FinishReasons(answer []byte) (reasons []string) {
	m := readMembers(answer)
	if len(m.choices) > 0 && m.choices[0] == '[' {
		eachElement(m.choices, func(choice []byte) {
			if reason := member(choice, "finish_reason"); reason != "" && len(reasons) < maxFinishReasons {
				reasons = append(reasons, word(reason))
			}
		})
		return reasons
	}
	if reason := member(answer, "stop_reason"); reason != "" {
		return []string{word(reason)}
	}
	if status := readString(m.status); status != "" {
		return []string{word(status)}
	}
	return nil
}

// member returns a text of an object; empty: it has none.
func member(object []byte, name string) string {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return ""
		}
		if string(key) == name {
			return readString(value)
		}
	}
}

func word(s string) string {
	if len(s) > maxFinishReasonBytes || strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return "other"
	}
	return s
}
