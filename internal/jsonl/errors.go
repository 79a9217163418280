package jsonl

import "fmt"

// The codes of a LineError.
const (
	CodeInvalidJSON       = "invalid_json"        // no JSON text, or something follows it on the line
	CodeInvalidUTF8       = "invalid_utf8"        // bytes that are no UTF-8
	CodeInvalidFormat     = "invalid_format"      // compressed in a way that is not read, or damaged; reading stopped there
	CodeMissingField      = "missing_field"       // custom_id, url or body is absent
	CodeEmptyField        = "empty_field"         // custom_id or url is ""
	CodeWrongType         = "wrong_type"          // the line, or a field, has another JSON type than it must
	CodeDuplicateField    = "duplicate_field"     // an object, at any depth, has a name twice
	CodeInvalidField      = "invalid_field"       // too long, or holds a NUL
	CodeInvalidMethod     = "invalid_method"      // method is not POST
	CodeUnknownURL        = "unknown_url"         // url is none of Config.Endpoints
	CodeURLMismatch       = "url_mismatch"        // url is not Config.Endpoint
	CodeMixedURLs         = "mixed_urls"          // url is not that of the lines before
	CodeMissingModel      = "missing_model"       // body.model is absent or ""
	CodeDuplicateCustomID = "duplicate_custom_id" // an earlier line has the same custom_id
	CodeRequestTooLarge   = "request_too_large"   // the line exceeds Limits.MaxRequestBytes
	CodeModelNotAllowed   = "model_not_allowed"   // the model matches none of Config.Models
	CodeTooManyModels     = "too_many_models"     // the line's model exceeds Limits.MaxModels
	CodeTooManyRequests   = "too_many_requests"   // the line exceeds Limits.MaxRequests; reading stopped there
	CodeFileTooLarge      = "file_too_large"      // the line exceeds Limits.MaxFileBytes; reading stopped there
	CodeEmptyFile         = "empty_file"          // the file has no request
)

// LineError is the first problem of one bad line.
type LineError struct {
	Line    int    // 1-based, blank lines counted; 0: the file as a whole
	Field   string // such as custom_id or body.model; empty: the line as a whole
	Code    string // one of the Code constants
	Message string // names line and field; quotes nothing of the line but a shortened custom_id
	Alike   int    // further lines with the same fault, for which this one stands
}

// Error returns the message.
func (e LineError) Error() string { return e.Message }

// defaultListed bounds InvalidFileError.Lines.
const defaultListed = 100

// InvalidFileError says why a file was refused.
type InvalidFileError struct {
	// Lines are the first bad lines in order, Config.MaxListed of them. Of lines that have the same
	// fault, which is one of how the file was written, the first stands for all.
	// Where a limit made the Reader stop, the last element is the line that it
	// stopped at.
	Lines []LineError
	// Total is the number of bad lines that were seen.
	Total int
}

// Error names the first bad line and counts the others.
func (e *InvalidFileError) Error() string {
	message := "invalid input file: " + e.Lines[0].Message
	if len(e.Lines) == 1 {
		return message
	}
	return fmt.Sprintf("%s (bad lines: %d)", message, e.Total)
}

// More is the number of bad lines that no element of Lines stands for.
func (e *InvalidFileError) More() int {
	more := e.Total - len(e.Lines)
	for _, line := range e.Lines {
		more -= line.Alike
	}
	return more
}

// add records a bad line, and lists it if it is one of the first.
func (e *InvalidFileError) add(line LineError, most int) {
	e.Total++
	if len(e.Lines) < most {
		e.Lines = append(e.Lines, line)
	}
}

// addStop records the line that reading stopped at; it is always listed.
func (e *InvalidFileError) addStop(line LineError, most int) {
	if len(e.Lines) == most {
		e.Lines = e.Lines[:most-1]
	}
	e.add(line, most)
}

// problem is a LineError whose line is yet to be named.
type problem struct {
	field, code, text string
	fault             fault
}

func (p problem) at(line int) LineError {
	message := p.text
	if p.field != "" {
		message = p.field + " " + p.text
	}
	if line > 0 {
		message = fmt.Sprintf("line %d: %s", line, message)
	}
	return LineError{Line: line, Field: p.field, Code: p.code, Message: message}
}
