package jsonl

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
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
// for byte, but for what readers stumble over: U+0085, U+2028 and U+2029 become
// escapes, and half a surrogate pair U+FFFD. Any other body, and one that many
// readers refuse (see isReadable), becomes a JSON string; bytes that are no UTF-8
// become U+FFFD in both. A nil body becomes null.
func AppendOutputLine(dst []byte, r batch.Result) []byte {
	begin := len(dst)
	dst = appendHead(dst, r)
	dst = appendResponse(dst, r)
	return escapeLineEnds(append(dst, ",\"error\":null}\n"...), begin)
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
	begin := len(dst)
	dst = appendHead(dst, r)
	if r.StatusCode == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = appendResponse(dst, r)
	}
	code, message := Describe(r)
	dst = append(dst, `,"error":{"code":`...)
	dst = appendString(dst, code)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, message)
	return escapeLineEnds(append(dst, "}}\n"...), begin)
}

// lineEnds are characters that JSON lets stand in a string, and that readers
// which split lines by Unicode's rules, such as Python's splitlines, take for
// the end of a line.
var lineEnds = strings.NewReplacer("\u0085", `\u0085`, "\u2028", `\u2028`, "\u2029", `\u2029`)

// escapeLineEnds writes line ends within strings as escapes, from begin on.
func escapeLineEnds(dst []byte, begin int) []byte {
	line := dst[begin:]
	if !bytes.Contains(line, []byte("\u0085")) && !bytes.Contains(line, []byte("\u2028")) && !bytes.Contains(line, []byte("\u2029")) {
		return dst
	}
	return append(dst[:begin], lineEnds.Replace(string(line))...)
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
	// on, not judged.
	options := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.PreserveRawStrings(true)}
	embedded, err := jsontext.AppendFormat(dst, body, options...)
	if err != nil {
		embedded, err = jsontext.AppendFormat(dst, replaceLoneSurrogates(body), options...)
	}
	if err == nil && isReadable(embedded[len(dst):]) {
		return embedded
	}
	return appendString(dst, body)
}

// replaceLoneSurrogates writes U+FFFD for escapes of half a surrogate pair, which
// strict readers refuse.
func replaceLoneSurrogates(body []byte) []byte {
	out := make([]byte, 0, len(body))
	for len(body) > 0 {
		next := bytes.IndexByte(body, '\\')
		if next < 0 || next+1 == len(body) {
			break
		}
		out, body = append(out, body[:next]...), body[next:]
		n := 2
		if r := escaped(body); utf16.IsSurrogate(r) {
			n = 6
			if utf16.DecodeRune(r, escaped(body[n:])) == utf8.RuneError {
				out, body = append(out, `\ufffd`...), body[n:]
				continue
			}
			n = 12
		}
		out, body = append(out, body[:n]...), body[n:]
	}
	return append(out, body...)
}

// escaped returns the character of the escape \uXXXX that b begins with; -1: it
// begins with something else.
func escaped(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// appendString appends s as a JSON string, with U+FFFD for what is no UTF-8.
func appendString[Text ~string | ~[]byte](dst []byte, s Text) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // its only error is that it replaced something
	return dst
}

// Describe returns the code and message of a result that is no success.
func Describe(r batch.Result) (code, message string) {
	switch {
	case r.Reason == batch.BudgetExceeded:
		return string(batch.BudgetExceeded), batch.BudgetExceeded.Message(0) + because(r) + "."
	case r.State == batch.Canceled || r.Reason == batch.BatchCancelled:
		return string(batch.BatchCancelled), batch.BatchCancelled.Message(0) + because(r) + "."
	case r.State == batch.Expired || r.Reason == batch.BatchExpired:
		return string(batch.BatchExpired), batch.BatchExpired.Message(0) + because(r) + "."
	case r.Reason == "":
		return string(batch.Failed), r.Reason.Message(0) + "."
	}
	return string(r.Reason), r.Reason.Message(r.StatusCode) + because(r) + attempts(r.Attempts)
}

// because adds what the owner may know of the cause. What the endpoint said is in
// the response, if there is one.
func because(r batch.Result) string {
	switch {
	case r.Cause == "" || r.StatusCode != 0:
		return ""
	case r.State == batch.Canceled || r.State == batch.Expired:
		return "; " + r.Cause
	}
	return ": " + r.Cause
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
