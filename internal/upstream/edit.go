package upstream

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// changes are what a call changes in the body of its request.
type changes struct {
	// model takes the place of each "model"; it is quoted, and none is added.
	model string
	// priority takes the place of each "priority", so that no client says it, or is
	// added. vLLM takes an integer of 64 bits, and serves the lowest first:
	// https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
	priority string
	// stream makes the request ask for a streamed answer. One that is streamed in
	// chunks, for this or because it asks for it itself, is also made to ask for
	// the usage, which only its last chunk has.
	stream bool
}

// changes returns an error that holds nothing of the body.
func (r *Request) changes() (c changes, err error) {
	if r.Rename {
		name, err := jsontext.AppendQuote(nil, r.Model)
		if err != nil {
			return c, errors.New("the model's name is not valid UTF-8")
		}
		c.model = string(name)
	}
	if r.Options.SendsPriority() && !r.Deadline.IsZero() {
		c.priority = strconv.FormatInt(r.Deadline.Unix(), 10)
	}
	c.stream = r.Options.Streams()
	return c, nil
}

// edit replaces the bytes of a body from one place to another.
type edit struct {
	from, to int
	text     string
	usage    bool // it asks for the usage
}

// editedBody is a body, and the edits that make it what is sent. All are found in
// one pass over its top level, and nothing else of it changes: order, blanks and
// numbers stay as they were written. The body itself never changes.
//
// A member that is set is set wherever it is given, so that it does not matter
// which of several an endpoint takes; of one that is only read, the last counts.
type editedBody struct {
	given []byte
	edits []edit // in the order of their places
	begin int    // where members are added, in front of all others
	added []edit
	empty bool // there are no others
	ask   streamAsk
	// editsUsage: some of the edits ask for the usage.
	editsUsage bool
}

// editBody finds the edits of a body that goes to a path. One that is no JSON
// object is sent as it is, unless it is broken and was to name another model.
func editBody(path string, body []byte, c changes) (editedBody, error) {
	plain := editedBody{given: body}
	kind := streamKindOf(path)
	if kind != 0 && !c.stream && !mayAskStream(body) {
		kind = 0
	}
	if kind == 0 && c.model == "" && c.priority == "" {
		return plain, nil
	}
	e := editedBody{given: body, empty: true, ask: streamAsk{kind: kind, choices: 1}}
	members := walkMembers(body)
	e.begin = members.offset()
	var asks, hasStream, hasOptions, hasPriority bool
	n, prompts := 1, 1
	for members.next() {
		e.empty = false
		key, value := members.key, members.value
		to := members.offset()
		from := to - len(value)
		switch {
		case isKey(key, "model"):
			name := string(value)
			if c.model != "" {
				name = c.model
				e.set(from, to, name)
			}
			e.ask.model = text(name, maxNameBytes)
		case c.priority != "" && isKey(key, "priority"):
			hasPriority = true
			e.set(from, to, c.priority)
		case kind == 0:
		case isKey(key, "stream"):
			hasStream, asks = true, string(value) == "true"
			if c.stream && !asks {
				e.set(from, to, "true")
			}
		case isKey(key, "stream_options"):
			hasOptions = true
			e.includeUsage(value, from)
		case isKey(key, "n"):
			n = max(int(min(readCount(value), math.MaxInt32)), 1)
		case isKey(key, "prompt") && kind == textStream:
			prompts = max(countInputs(value), 1)
		}
	}
	if !members.whole {
		if members.object && c.model != "" {
			return plain, fmt.Errorf("the body is not JSON (byte %d)", members.offset()+1)
		}
		return plain, nil
	}
	streams := kind != 0 && (c.stream || asks)
	if streams && !hasStream {
		e.add(`"stream":true`, false)
	}
	if streams && !hasOptions {
		e.add(`"stream_options":{"include_usage":true}`, true)
	}
	if c.priority != "" && !hasPriority {
		e.add(`"priority":`+c.priority, false)
	}
	if !streams {
		e.ask = streamAsk{}
		return e, nil
	}
	e.ask.choices = n * prompts
	e.ask.usage = (kind == chatStream || kind == textStream) && e.editsUsage
	return e, nil
}

func (e *editedBody) set(from, to int, text string) {
	e.edits = append(e.edits, edit{from: from, to: to, text: text})
}

func (e *editedBody) add(member string, usage bool) {
	e.added = append(e.added, edit{text: member, usage: usage})
	e.editsUsage = e.editsUsage || usage
}

// includeUsage makes a value of "stream_options", which begins at a place of the
// body, ask for the usage, if it doesn't and can.
func (e *editedBody) includeUsage(options []byte, at int) {
	set := func(from, to int, text string) {
		e.edits = append(e.edits, edit{at + from, at + to, text, true})
		e.editsUsage = true
	}
	if string(options) == "null" {
		set(0, len(options), `{"include_usage":true}`)
		return
	}
	members := walkMembers(options)
	begin, has, empty := members.offset(), false, true
	for members.next() {
		empty = false
		if isKey(members.key, "include_usage") {
			has = true
			if end := members.offset(); string(members.value) != "true" {
				set(end-len(members.value), end, "true")
			}
		}
	}
	switch {
	case has || !members.whole:
	case empty:
		set(begin, begin, `"include_usage":true`)
	default:
		set(begin, begin, `"include_usage":true,`)
	}
}

// splice returns the body with its edits, those that ask for the usage only if
// withUsage is set. Without any it is the body that was given.
func (e *editedBody) splice(withUsage bool) []byte {
	size, some := len(e.given), false
	for _, edits := range [][]edit{e.added, e.edits} {
		for _, one := range edits {
			if withUsage || !one.usage {
				size, some = size+len(one.text)+len(","), true
			}
		}
	}
	if !some {
		return e.given
	}
	out := append(make([]byte, 0, size), e.given[:e.begin]...)
	more := false
	for _, one := range e.added {
		if withUsage || !one.usage {
			if more {
				out = append(out, ',')
			}
			out, more = append(out, one.text...), true
		}
	}
	if more && !e.empty {
		out = append(out, ',')
	}
	copied := e.begin
	for _, one := range e.edits {
		if withUsage || !one.usage {
			out = append(append(out, e.given[copied:one.from]...), one.text...)
			copied = one.to
		}
	}
	return append(out, e.given[copied:]...)
}
