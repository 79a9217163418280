package upstream

import (
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// inUTF8 returns a body in UTF-8 that is in one of the charsets of a byte a character
// and says so. It may be twice as long then, or thrice.
func inUTF8(contentType string, body []byte) []byte {
	if !strings.Contains(contentType, ";") || utf8.Valid(body) {
		return body
	}
	_, params, _ := mime.ParseMediaType(contentType)
	switch strings.ToLower(params["charset"]) {
	case "iso-8859-1", "latin1", "windows-1252":
		if text, err := charmap.Windows1252.NewDecoder().Bytes(body); err == nil {
			return text
		}
	}
	return body
}
