package jsonl

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
)

// AppendOutputLine appends the line of a completed request to dst, its line end
// included:
//
//	{"id":"batch_req_…","custom_id":"…","response":{"status_code":200,"request_id":"…","body":{…}},"error":null}
//
// A body that is JSON is embedded without its white space and otherwise byte
// for byte; any other becomes a JSON string; bytes that are no UTF-8 become
// U+FFFD in both. A nil body becomes null.
func AppendOutputLine(dst []byte, r batch.Result) []byte {
	dst = appendHead(dst, r)
	dst = appendResponse(dst, r)
	return append(dst, ",\"error\":null}\n"...)
}

// AppendErrorLine appends the line of a request that ended in any other way:
// as AppendOutputLine does, but with an error, and with the response only where
// there was one:
//
//	{"id":"batch_req_…","custom_id":"…","response":null,"error":{"code":"timeout","message":"…"}}
//
// The code is batch_cancelled or batch_expired by the request's state, else
// the reason of its failure.
func AppendErrorLine(dst []byte, r batch.Result) []byte {
	dst = appendHead(dst, r)
	if r.StatusCode == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = appendResponse(dst, r)
	}
	code, message := describe(r)
	dst = append(dst, `,"error":{"code":`...)
	dst = appendString(dst, code)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, message)
	return append(dst, "}}\n"...)
}

func appendHead(dst []byte, r batch.Result) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, r.ID.String())
	dst = append(dst, `,"custom_id":`...)
	dst = appendString(dst, r.CustomID)
	return append(dst, `,"response":`...)
}

func appendResponse(dst []byte, r batch.Result) []byte {
	dst = append(dst, `{"status_code":`...)
	dst = strconv.AppendInt(dst, int64(r.StatusCode), 10)
	dst = append(dst, `,"request_id":`...)
	dst = appendString(dst, r.RequestID)
	dst = append(dst, `,"body":`...)
	dst = appendBody(dst, r.Body)
	return append(dst, '}')
}

func appendBody(dst, body []byte) []byte {
	if body == nil {
		return append(dst, "null"...)
	}
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	}
	// The options of a response are laxer than those of a request: it is passed
	// on, not judged. Valid UTF-8 leaves AllowInvalidUTF8 one effect, to let
	// escapes of lone surrogates through.
	embedded, err := jsontext.AppendFormat(dst, body,
		jsontext.AllowDuplicateNames(true),
		jsontext.AllowInvalidUTF8(true),
		jsontext.PreserveRawStrings(true))
	if err != nil {
		return appendString(dst, body)
	}
	return embedded
}

// appendString appends s as a JSON string, with U+FFFD for what is no UTF-8.
func appendString[Text ~string | ~[]byte](dst []byte, s Text) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // its only error is that it replaced something
	return dst
}

// describe returns the code and message of a result that is no success.
func describe(r batch.Result) (code, message string) {
	switch {
	case r.State == batch.Canceled || r.Reason == batch.BatchCancelled:
		return string(batch.BatchCancelled), batch.BatchCancelled.Message(0) + "."
	case r.State == batch.Expired || r.Reason == batch.BatchExpired:
		return string(batch.BatchExpired), batch.BatchExpired.Message(0) + "."
	case r.Reason == "":
		return string(batch.Failed), r.Reason.Message(0) + "."
	}
	return string(r.Reason), r.Reason.Message(r.StatusCode) + attempts(r.Attempts)
}

func attempts(n int) string {
	switch n {
	case 0:
		return "."
	case 1:
		return " (1 attempt)."
	}
	return fmt.Sprintf(" (%d attempts).", n)
}
