package jsonl

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
)

const methodPost = "POST"

// template makes a request of a line's fields, or says which is the first bad
// one. A custom_id counts as taken even when its line is bad elsewhere.
func (r *Reader) template(f fields) (batch.Template, *problem) {
	line := r.lines.number
	customID, bad := r.customID(f.customID)
	if bad != nil {
		return batch.Template{}, bad
	}
	if bad := checkMethod(f.method); bad != nil {
		return batch.Template{}, bad
	}
	url, bad := r.checkURL(f.url)
	if bad != nil {
		return batch.Template{}, bad
	}
	if bad := checkType("body", f.body, jsontext.KindBeginObject); bad != nil {
		return batch.Template{}, bad
	}
	model, bad := r.model(f.model, len(f.body.raw))
	if bad != nil {
		return batch.Template{}, bad
	}
	return batch.Template{
		Line:     int32(line),
		CustomID: string(customID),
		Model:    model,
		Method:   methodPost,
		Path:     url,
		Body:     f.body.raw,
	}, nil
}

func (r *Reader) customID(m member) ([]byte, *problem) {
	const field = "custom_id"
	if bad := checkType(field, m, jsontext.KindString); bad != nil {
		return nil, bad
	}
	id := m.text()
	if bad := checkText(field, id, maxCustomIDBytes); bad != nil {
		return nil, bad
	}
	if len(id) == 0 {
		return nil, &problem{field: field, code: CodeEmptyField, text: "is empty"}
	}
	if first := r.customIDs.add(id, r.lines.number); first != 0 {
		return nil, &problem{field: field, code: CodeDuplicateCustomID, text: fmt.Sprintf("%s is already that of line %d", shortQuote(id), first)}
	}
	return id, nil
}

func checkMethod(m member) *problem {
	const field = "method"
	if m.kind == jsontext.KindInvalid {
		return nil
	}
	if bad := checkType(field, m, jsontext.KindString); bad != nil {
		return bad
	}
	if string(m.text()) != methodPost {
		return &problem{field: field, code: CodeInvalidMethod, text: "must be " + methodPost}
	}
	return nil
}

// checkURL returns the url as Config.Endpoints spells it, so that lines share
// one string. Azure's files have it without /v1.
func (r *Reader) checkURL(m member) (string, *problem) {
	const field = "url"
	if bad := checkType(field, m, jsontext.KindString); bad != nil {
		return "", bad
	}
	text := m.text()
	if len(text) == 0 {
		return "", &problem{field: field, code: CodeEmptyField, text: "is empty"}
	}
	i := slices.IndexFunc(r.cfg.Endpoints, func(endpoint string) bool { return endpoint == string(text) || endpoint == "/v1"+string(text) })
	if i < 0 {
		return "", &problem{field: field, code: CodeUnknownURL, text: "must be one of " + strings.Join(r.cfg.Endpoints, ", ")}
	}
	url := r.cfg.Endpoints[i]
	if r.cfg.Endpoint != "" && url != r.cfg.Endpoint {
		return "", &problem{field: field, code: CodeURLMismatch, text: fmt.Sprintf("is %s, but the batch's endpoint is %s", url, r.cfg.Endpoint)}
	}
	if r.urlLine == 0 {
		r.url, r.urlLine = url, r.lines.number
	}
	if url != r.url {
		r.mixed = true
		if !r.cfg.AllowMixedEndpoints {
			return "", &problem{field: field, code: CodeMixedURLs, text: fmt.Sprintf("is %s, but that of line %d is %s", url, r.urlLine, r.url)}
		}
	}
	return url, nil
}

// model counts the request towards its model.
func (r *Reader) model(m member, bodyBytes int) (batch.Model, *problem) {
	const field = "body.model"
	if m.kind == jsontext.KindInvalid {
		return "", &problem{field: field, code: CodeMissingModel, text: "is missing"}
	}
	if bad := checkType(field, m, jsontext.KindString); bad != nil {
		return "", bad
	}
	name := m.text()
	if len(name) == 0 {
		return "", &problem{field: field, code: CodeMissingModel, text: "is empty"}
	}
	if bad := checkText(field, name, maxModelBytes); bad != nil {
		return "", bad
	}
	if !r.summary.known(name) && !allowed(r.cfg.Models, string(name)) {
		return "", &problem{field: field, code: CodeModelNotAllowed, text: fmt.Sprintf("is %s, which is none of the models allowed here: %s", shortQuote(name), listPatterns(r.cfg.Models))}
	}
	model, ok := r.summary.add(name, bodyBytes, r.cfg.MaxModels)
	if !ok {
		return "", &problem{field: field, code: CodeTooManyModels, text: fmt.Sprintf("is one more than the %d models that a file may have", r.cfg.MaxModels)}
	}
	return model, nil
}

var kindNames = map[jsontext.Kind]string{
	jsontext.KindString:      "a string",
	jsontext.KindBeginObject: "an object",
}

func checkType(field string, m member, want jsontext.Kind) *problem {
	switch m.kind {
	case want:
		return nil
	case jsontext.KindInvalid:
		return &problem{field: field, code: CodeMissingField, text: "is missing"}
	}
	return &problem{field: field, code: CodeWrongType, text: "must be " + kindNames[want]}
}

// checkText refuses what Postgres cannot hold in a text column, or an index.
func checkText(field string, text []byte, limit int) *problem {
	if len(text) > limit {
		return &problem{field: field, code: CodeInvalidField, text: fmt.Sprintf("is longer than %d bytes", limit)}
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return &problem{field: field, code: CodeInvalidField, text: "holds a NUL character"}
	}
	return nil
}

// shortQuote quotes the first runes of text, with control characters escaped.
func shortQuote(text []byte) string {
	const limit = 64
	runes := []rune(string(text))
	if len(runes) <= limit {
		return fmt.Sprintf("%q", string(runes))
	}
	return fmt.Sprintf("%q…", string(runes[:limit]))
}
