package jsonl

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// fault is a cause that many lines of a file have in common, as a rule, since it
// lies in how the file was written.
type fault int

const (
	faultOther      fault = iota // of the line alone
	faultEncoding                // bytes that are no UTF-8
	faultSurrogate               // half of a surrogate pair
	faultMark                    // a byte order mark where files were joined
	faultComma                   // a comma after the object
	faultJoined                  // two objects on a line
	faultQuote                   // single quotes
	faultUnfinished              // an object that goes on after the line
	faultNoJSON                  // something else than JSON
	faults
)

// wholeFile is a problem of the file as a whole that this line shows; nil: none. Every
// other line would be wrong in the same way, so reading stops there. The first
// line is the first that is not blank.
func wholeFile(line []byte, first bool) *problem {
	text := bytes.Trim(line, " \t\r")
	if len(text) == 0 { // of a long line only the beginning is known
		return nil
	}
	switch {
	case first && bytes.HasPrefix(line, []byte(gzipMagic)):
		return &problem{code: CodeInvalidFormat, text: "the file is compressed with gzip twice; send it compressed once, or as plain text"}
	case first && isUTF16(line):
		return &problem{code: CodeInvalidUTF8, text: "the file is UTF-16 or UTF-32, not UTF-8: save it as UTF-8"}
	case first && text[0] == '[':
		return &problem{code: CodeInvalidJSON, text: "this is a JSON array; one object per line is needed, as jq -c '.[]' writes them"}
	case hasBareReturns(text):
		return &problem{code: CodeInvalidJSON, text: "the lines end in carriage returns alone; end them in line feeds, as tr '\\r' '\\n' does"}
	}
	return nil
}

// unfinished is the problem of a file whose objects take several lines.
func unfinished(line []byte) *problem {
	text := bytes.Trim(line, " \t\r")
	if text[0] != '{' || !bytes.ContainsAny(text[len(text)-1:], "{[,") {
		return nil
	}
	return &problem{code: CodeInvalidJSON, text: "the JSON object goes on after its line; one object per line is needed, as jq -c . writes them"}
}

func isUTF16(text []byte) bool {
	return bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) || bytes.IndexByte(text[:min(len(text), 4)], 0) >= 0
}

// hasBareReturns reports whether an object ends at a carriage return, and
// another begins behind it.
func hasBareReturns(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\r')
		if i < 0 {
			return false
		}
		before, behind := bytes.TrimRight(text[:i], " \t\r"), bytes.TrimLeft(text[i:], " \t\r")
		if bytes.HasSuffix(before, []byte("}")) && bytes.HasPrefix(behind, []byte("{")) {
			return true
		}
		text = behind
	}
}

// trailing is the problem of a line with more than one JSON value: rest is what
// follows the first.
func trailing(line, rest []byte) *problem {
	at := len(line) - len(rest) + 1
	switch {
	case rest[0] == ',':
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("a comma follows the JSON object (byte %d); objects are separated by line ends alone", at), fault: faultComma}
	case bytes.HasPrefix(rest, byteOrderMark):
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("a byte order mark (U+FEFF) follows the JSON object (byte %d); was another file appended here? Remove the mark and end the line before it", at), fault: faultMark}
	case rest[0] == '{':
		return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("more follows the JSON value: another object (byte %d); each must be on its own line", at), fault: faultJoined}
	}
	return &problem{code: CodeInvalidJSON, text: fmt.Sprintf("more follows the JSON value (byte %d)", at)}
}

// isSurrogate reports whether text begins with the escape of a surrogate.
func isSurrogate(text []byte) bool {
	return len(text) > 3 && text[0] == '\\' && text[1] == 'u' && (text[2] == 'd' || text[2] == 'D') && bytes.IndexByte([]byte("89abABcdefCDEF"), text[3]) >= 0
}

// notUTF8 says which byte is none of UTF-8, and what it may be.
func notUTF8(line []byte) *problem {
	n := validPrefix(line)
	text, bad := fmt.Sprintf("not UTF-8 (byte %d)", n+1), line[n:]
	switch windows := charmap.Windows1252.DecodeByte(bad[0]); {
	case bytes.HasPrefix(bad, []byte("\xff\xfe")), bytes.HasPrefix(bad, []byte("\xfe\xff")):
		text += "; UTF-16 begins here: was another file appended? Save it as UTF-8"
	case bad[0] == 0xed && len(bad) > 2 && bad[1] >= 0xa0:
		text += "; half of a surrogate pair is written as a character (CESU-8): save the file as UTF-8"
	case !utf8.FullRune(bad):
		text += "; a character is cut short at the end of the line"
	case bad[0] >= 0xa0:
		text += fmt.Sprintf("; the byte 0x%X is %s in Latin-1: save the file as UTF-8", bad[0], strconv.QuoteRune(windows))
	case windows >= 0xa0:
		text += fmt.Sprintf("; the byte 0x%X is %s in Windows-1252: save the file as UTF-8", bad[0], strconv.QuoteRune(windows))
	default:
		text += ": save the file as UTF-8"
	}
	return &problem{code: CodeInvalidUTF8, text: text, fault: faultEncoding}
}

// validPrefix is the number of bytes before the first that is no UTF-8.
func validPrefix(line []byte) int {
	i := 0
	for i < len(line) {
		r, size := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		i += size
	}
	return i
}
