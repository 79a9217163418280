package upstream

import "strconv"

// withPriority returns the body with this "priority" at its top level, and every
// other byte as it was: in place of the one that is there, of each of them if
// there are several, so that no client says it, or else as the first member. The
// body itself is not changed, and one that is no JSON object is returned as it is.
//
// vLLM takes an integer of 64 bits, and serves the lowest first:
// https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
func withPriority(body []byte, priority int64) []byte {
	fields := newFieldScanner(body)
	if len(fields.rest) == 0 {
		return body
	}
	begin := len(body) - len(fields.rest) // behind the brace
	number := strconv.FormatInt(priority, 10)
	var edits []edit
	empty := true
	for {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		empty = false
		if isKey(key, "priority") {
			end := len(body) - len(fields.rest)
			edits = append(edits, edit{end - len(value), end, number})
		}
	}
	if len(edits) == 0 {
		edits = []edit{firstMember(begin, `"priority":`+number, empty)}
	}
	return splice(body, edits)
}
