package upstream

// members are those of an object's top level that tell whether it is an answer or
// an error, and what it used: each as written; nil: there is none.
type members struct {
	object, kind, errored, code, status     []byte // kind is "type", errored "error"
	statusCode, statusUnder, errorType      []byte // "statusCode", "status_code", "error_type" or "__type"
	model, usage                            []byte
	choices, data, output, results, content []byte // see answerKinds
	scores, embedding                       []byte
}

// place returns where a member is kept; nil: nowhere.
func (m *members) place(name []byte) *[]byte {
	switch string(name) {
	case "object":
		return &m.object
	case "type":
		return &m.kind
	case "error":
		return &m.errored
	case "code":
		return &m.code
	case "status":
		return &m.status
	case "statusCode":
		return &m.statusCode
	case "status_code":
		return &m.statusUnder
	case "error_type", "__type":
		return &m.errorType
	case "model":
		return &m.model
	case "usage":
		return &m.usage
	case "choices":
		return &m.choices
	case "data":
		return &m.data
	case "output":
		return &m.output
	case "results":
		return &m.results
	case "content":
		return &m.content
	case "scores":
		return &m.scores
	case "embedding":
		return &m.embedding
	}
	return nil
}

// readMembers reads them in one pass. Of two with one name the last counts.
func readMembers(object []byte) (m members) {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return m
		}
		if place := m.place(memberName(key)); place != nil {
			*place = value
		}
	}
}

// isError holds for an object that says itself that it is an error.
func (m *members) isError() bool {
	return readString(m.object) == "error" || readString(m.kind) == "error"
}
