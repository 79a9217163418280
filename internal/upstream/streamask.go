package upstream

import (
	"bytes"
	"strings"
)

// streamKind is how the events of a streamed answer are folded; 0: not at all.
type streamKind int

const (
	chatStream     streamKind = iota + 1 // chunks with choices, also those of /completions
	textStream                           // those of /completions
	responseStream                       // the last event holds the answer
	messageStream                        // content blocks
)

// streamKinds are the paths whose streamed answers are folded, by their ends.
var streamKinds = []struct {
	path string
	kind streamKind
}{
	{"/chat/completions", chatStream},
	{"/completions", textStream},
	{"/responses", responseStream},
	{"/messages", messageStream},
}

func streamKindOf(path string) streamKind {
	path, _, _ = strings.Cut(path, "?")
	for _, k := range streamKinds {
		if strings.HasSuffix(path, k.path) {
			return k.kind
		}
	}
	return 0
}

// streamAsk is the streamed answer that a body asks for as it is sent.
type streamAsk struct {
	kind    streamKind // 0: none
	choices int        // how many the answer will have
	model   string     // as written
	// usage says that the body asks for the usage because of an edit, not because
	// the request itself does.
	usage bool
}

// mayAskStream reports whether the body may have a member "stream". Almost none
// has, and this costs little.
func mayAskStream(body []byte) bool {
	return bytes.Contains(body, []byte(`"stream"`)) ||
		bytes.Contains(body, []byte(`\u007`)) || bytes.Contains(body, []byte(`\u006`)) // "stre\u0061m"
}
