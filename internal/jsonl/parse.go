package jsonl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// member is the value of one member of a JSON object, as it stands on the
// line. The zero value is an absent member.
type member struct {
	kind jsontext.Kind
	raw  []byte
}

// text is the content of a string, with its escapes resolved.
func (m member) text() []byte {
	if bytes.IndexByte(m.raw, '\\') < 0 {
		return m.raw[1 : len(m.raw)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, m.raw) // the decoder has accepted it
	return text
}

// fields are the members that make a request.
type fields struct{ customID, method, url, body, model member }

// parser reads one line after another. A line is read once, in place, by the
// rules of RFC 7493: UTF-8, paired surrogates, and no name twice in an object,
// so that no upstream can find another model in a body than we did.
type parser struct {
	decoder *jsontext.Decoder
	source  bytes.Buffer // holds line: the decoder reads a bytes.Buffer without copying it
	line    []byte
	survey  surveyor // nil: none
}

func newParser(survey surveyor) *parser {
	p := &parser{survey: survey}
	p.decoder = jsontext.NewDecoder(&p.source)
	return p
}

// parse returns what the line holds, or why it is no JSON object. The fields
// alias the line.
func (p *parser) parse(line []byte) (fields, *problem) {
	if !utf8.Valid(line) {
		return fields{}, notUTF8(line)
	}
	if bytes.HasPrefix(line, byteOrderMark) {
		return fields{}, &problem{code: CodeInvalidJSON, text: "begins with a byte order mark (U+FEFF), which only the first line may; was another file appended here? Remove the mark", fault: faultMark}
	}
	p.line = line
	p.source = *bytes.NewBuffer(line)
	p.decoder.Reset(&p.source)

	var f fields
	var err error
	isObject := p.decoder.PeekKind() == jsontext.KindBeginObject
	if isObject {
		err = p.request(&f)
	} else {
		_, err = p.value()
	}
	if err != nil {
		return fields{}, syntaxProblem(line, err)
	}
	if rest := bytes.TrimLeft(line[p.decoder.InputOffset():], " \t\r"); len(rest) > 0 {
		return fields{}, trailing(line, rest)
	}
	if !isObject {
		return fields{}, &problem{code: CodeWrongType, text: "must be a JSON object"}
	}
	return f, nil
}

func (p *parser) request(f *fields) error {
	if _, err := p.decoder.ReadToken(); err != nil {
		return err
	}
	for p.decoder.PeekKind() != jsontext.KindEndObject {
		name, err := p.value()
		if err != nil {
			return err
		}
		switch string(name.text()) {
		case "custom_id":
			f.customID, err = p.value()
		case "method":
			f.method, err = p.value()
		case "url":
			f.url, err = p.value()
		case "body":
			f.body, err = p.body(&f.model)
		default:
			_, err = p.value()
		}
		if err != nil {
			return err
		}
	}
	_, err := p.decoder.ReadToken()
	return err
}

func (p *parser) body(model *member) (member, error) {
	if p.decoder.PeekKind() != jsontext.KindBeginObject {
		return p.value()
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return member{}, err
	}
	start := p.decoder.InputOffset() - 1
	for p.decoder.PeekKind() != jsontext.KindEndObject {
		name, err := p.value()
		if err != nil {
			return member{}, err
		}
		value, err := p.value()
		if err != nil {
			return member{}, err
		}
		if string(name.text()) == "model" {
			*model = value
		}
		if p.survey != nil {
			p.survey.Member(name.raw[1:len(name.raw)-1], value.raw)
		}
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return member{}, err
	}
	end := p.decoder.InputOffset()
	return member{kind: jsontext.KindBeginObject, raw: p.line[start:end:end]}, nil
}

// value reads the next name or value, whatever it is.
func (p *parser) value() (member, error) {
	raw, err := p.decoder.ReadValue()
	if err != nil {
		return member{}, err
	}
	end := int(p.decoder.InputOffset())
	return member{kind: raw.Kind(), raw: p.line[end-len(raw) : end : end]}, nil
}

// syntaxProblem translates the decoder's errors, whose texts quote the line.
func syntaxProblem(line []byte, err error) *problem {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return &problem{code: CodeInvalidJSON, text: "not valid JSON"}
	}
	at := syntax.ByteOffset + 1
	here := line[min(syntax.ByteOffset, int64(len(line))):]
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("not valid JSON: the line ends before its JSON value (byte %d); each object must be on one line", at), fault: faultUnfinished}
	case isSurrogate(here):
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("not valid JSON: half of a surrogate pair, which is no character (byte %d); write both halves, or the character itself", at), fault: faultSurrogate}
	case len(here) > 0 && here[0] == '\'':
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("not valid JSON: a single quote (byte %d); JSON has double quotes, as json.dumps of Python writes them", at), fault: faultQuote}
	case len(bytes.TrimLeft(line[:len(line)-len(here)], " \t\r")) == 0:
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("not valid JSON (byte %d): each line must be a JSON object", at), fault: faultNoJSON}
	default:
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("not valid JSON (byte %d)", at)}
	}
	switch pointer := string(syntax.JSONPointer); {
	case pointer == "/body/model":
		return &problem{field: "body.model", code: CodeDuplicateField, text: "is given twice"}
	case strings.HasPrefix(pointer, "/body/"):
		return &problem{field: "body", code: CodeDuplicateField, text: fmt.Sprintf("has an object with the same name twice (byte %d)", syntax.ByteOffset+1)}
	case pointer == "/custom_id", pointer == "/method", pointer == "/url", pointer == "/body":
		return &problem{field: pointer[1:], code: CodeDuplicateField, text: "is given twice"}
	}
	return &problem{code: CodeDuplicateField, text: fmt.Sprintf("has an object with the same name twice (byte %d)", syntax.ByteOffset+1)}
}
