package jsonl

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"
)

// readWhole reads a file to its end.
func readWhole(t *testing.T, content io.Reader, cfg Config) (lines int, r *Reader, err error) {
	t.Helper()
	r, err = NewReader(content, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for ; err == nil; lines++ {
		_, err = r.Next()
	}
	return lines - 1, r, err
}

func zip(t *testing.T, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func inUTF16(text string, order ...byte) []byte {
	out := bytes.Clone(order)
	for _, u := range utf16.Encode([]rune(text)) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

// What is wrong with a whole file is said once, with the cause and what to do.
func TestWholeFiles(t *testing.T) {
	t.Parallel()
	one, two := request("a"), request("b")
	pretty := "{\n  \"custom_id\": \"a\",\n  \"body\": {\n    \"model\": \"m\"\n  }\n}\n"
	packed := zip(t, one+"\n"+two)
	for name, test := range map[string]struct {
		content string
		code    string
		want    string // the message
	}{
		"array on one line":    {"[" + one + "," + two + "]", CodeInvalidJSON, "line 1: this is a JSON array; one object per line is needed"},
		"array, indented":      {"\n[\n" + one + ",\n" + two + "\n]\n", CodeInvalidJSON, "line 2: this is a JSON array"},
		"pretty-printed":       {pretty, CodeInvalidJSON, "line 1: the JSON object goes on after its line; one object per line is needed"},
		"UTF-16 with a mark":   {string(inUTF16(one+"\n"+two, 0xff, 0xfe)), CodeInvalidUTF8, "line 1: the file is UTF-16 or UTF-32, not UTF-8: save it as UTF-8"},
		"UTF-16 without":       {string(inUTF16(one + "\n" + two)), CodeInvalidUTF8, "UTF-16"},
		"UTF-16, big endian":   {"\xfe\xff\x00{\x00}", CodeInvalidUTF8, "UTF-16"},
		"zip":                  {"PK\x03\x04abcdef", CodeInvalidFormat, "line 1: the file is compressed with zip; send it as plain text, or compressed with gzip"},
		"zstd":                 {"\x28\xb5\x2f\xfdabc", CodeInvalidFormat, "zstd"},
		"gzip, cut short":      {string(packed[:len(packed)-9]), CodeInvalidFormat, "is compressed with gzip, and is damaged or cut short"},
		"gzip, two bytes":      {string(packed[:2]), CodeInvalidFormat, "damaged or cut short"},
		"gzip, damaged":        {string(packed[:20]) + "xxxx" + string(packed[24:]), CodeInvalidFormat, "damaged or cut short"},
		"an array in gzip":     {string(zip(t, "["+one+"]")), CodeInvalidJSON, "JSON array"},
		"nothing, compressed":  {string(zip(t, "")), CodeEmptyFile, "no request"},
		"a mark where joined":  {"\xef\xbb\xbf" + one + "\n\xef\xbb\xbf" + two, CodeInvalidJSON, "line 2: begins with a byte order mark (U+FEFF)"},
		"Latin-1":              {one + "\n" + strings.Replace(two, "b", "\xe9", 1), CodeInvalidUTF8, "is 'é' in Latin-1: save the file as UTF-8"},
		"Windows-1252":         {strings.Replace(one, "a", "\x93a\x94", 1), CodeInvalidUTF8, "the byte 0x93 is '“' in Windows-1252: save the file as UTF-8"},
		"CESU-8":               {strings.Replace(one, "a", "\xed\xa0\xbd\xed\xb8\x80", 1), CodeInvalidUTF8, "half of a surrogate pair is written as a character (CESU-8)"},
		"a cut character":      {one + "\n" + two[:strings.Index(two, "b")] + "\xe2\x82", CodeInvalidUTF8, "line 2: not UTF-8 (byte 15); a character is cut short at the end of the line"},
		"UTF-16 where joined":  {one + "\n" + string(inUTF16(two, 0xff, 0xfe)), CodeInvalidUTF8, "line 2: not UTF-8 (byte 1); UTF-16 begins here"},
		"old Mac":              {one + "\r" + two + "\r", CodeInvalidJSON, "line 1: the lines end in carriage returns alone; end them in line feeds"},
		"old Mac, a long file": {strings.Repeat(one+"\r", 3*chunkBytes/len(one)), CodeInvalidJSON, "line 1: the lines end in carriage returns alone"},
		"a long array":         {" [" + strings.Repeat(one+",", 3*chunkBytes/len(one)) + one + "]", CodeInvalidJSON, "line 1: this is a JSON array"},
		"pretty, joined":       {one + "\n" + pretty + pretty, CodeInvalidJSON, "line 2: the JSON object goes on after its line"},
		"a mark within a line": {one + "\xef\xbb\xbf" + two, CodeInvalidJSON, "a byte order mark (U+FEFF) follows the JSON object"},
		"no line end":          {one + two, CodeInvalidJSON, "line 1: more follows the JSON value: another object"},
		"a table":              {"custom_id,method,url,body\na,POST,/v1/chat/completions,{}\n", CodeInvalidJSON, "line 1: not valid JSON (byte 1): each line must be a JSON object (so are 2 lines, up to line 2)"},
		"Parquet":              {"PAR1\x15\x04\xd5\n\x00\xff\n", CodeInvalidUTF8, "line 1: not UTF-8 (byte 7)"},
		"half a pair":          {one + "\n" + request(`x\ud83dy`), CodeInvalidJSON, "line 2: not valid JSON: half of a surrogate pair"},
		"cut off, second line": {one + "\n" + two[:20], CodeInvalidJSON, "line 2: not valid JSON: the line ends before its JSON value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := readWhole(t, strings.NewReader(test.content), Config{Limits: Limits{MaxRequestBytes: chunkBytes}})
			var invalid *InvalidFileError
			if !errors.As(err, &invalid) || len(invalid.Lines) != 1 || invalid.Lines[0].Code != test.code || !strings.Contains(invalid.Lines[0].Message, test.want) {
				t.Errorf("error %+v, want %s: %s", err, test.code, test.want)
			}
		})
	}
}

// What is wrong with many lines since it is so with the file is said once, and
// what else is wrong is said too.
func TestFaultsOfManyLines(t *testing.T) {
	t.Parallel()
	lines := func(change func(line string) string) string {
		var out strings.Builder
		for i := range 300 {
			out.WriteString(change(request(fmt.Sprint("é", i))) + "\n")
			if i%100 == 99 {
				out.WriteString(request(fmt.Sprint("good", i)) + "\n")
			}
		}
		return out.String() + "{}\n"
	}
	replace := func(from, to string) func(string) string {
		return func(line string) string { return strings.Replace(line, from, to, 1) }
	}
	for name, test := range map[string]struct {
		change func(string) string
		want   string // the message
	}{
		"Latin-1":         {replace("é", "\xe9"), "line 1: not UTF-8 (byte 15); the byte 0xE9 is 'é' in Latin-1: save the file as UTF-8 (so are 300 lines, up to line 302)"},
		"half a pair":     {replace("é", `\ud83d`), "line 1: not valid JSON: half of a surrogate pair, which is no character (byte 15); write both halves, or the character itself (so are 300 lines, up to line 302)"},
		"rows of a list":  {func(line string) string { return line + "," }, "objects are separated by line ends alone (so are 300 lines, up to line 302)"},
		"rows, indented":  {func(line string) string { return "  " + line + " ,\r" }, "objects are separated by line ends alone (so are 300 lines, up to line 302)"},
		"marks":           {func(line string) string { return "\n\xef\xbb\xbf" + line }, "a byte order mark"},
		"pairs":           {func(line string) string { return line + line }, "another object (byte "},
		"Python's quotes": {func(line string) string { return strings.ReplaceAll(line, `"`, "'") }, "JSON has double quotes, as json.dumps of Python writes them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := readWhole(t, strings.NewReader(lines(test.change)), Config{})
			var invalid *InvalidFileError
			if !errors.As(err, &invalid) || invalid.Total != 301 || len(invalid.Lines) != 2 || invalid.More() != 0 {
				t.Fatalf("error %+v", err)
			}
			if got := invalid.Lines[0]; got.Alike != 299 || !strings.Contains(got.Message, test.want) {
				t.Errorf("%d alike, message %q, want %q", got.Alike, got.Message, test.want)
			}
			if got := invalid.Lines[1]; got.Code != CodeMissingField || got.Alike != 0 {
				t.Errorf("then %+v", got)
			}
		})
	}
}

// A compressed file is read as what it holds, in any pieces, and is summed as
// it came.
func TestGzip(t *testing.T) {
	t.Parallel()
	content := "\xef\xbb\xbf" + request("a") + "\n" + request("b") + "\n"
	// As files that were compressed and then joined.
	packed := append(zip(t, content), zip(t, request("c"))...)
	for name, source := range map[string]io.Reader{
		"whole": bytes.NewReader(packed), "bytes": iotest.OneByteReader(bytes.NewReader(packed)), "with the end": iotest.DataErrReader(bytes.NewReader(packed)),
	} {
		n, r, err := readWhole(t, source, Config{})
		if err != io.EOF || n != 3 {
			t.Fatalf("%s: %d lines, %v", name, n, err)
		}
		if s := r.Summary(); s.SHA256 != sha256.Sum256(packed) || s.Bytes != int64(len(content)+len(request("c"))) {
			t.Errorf("%s: summary %+v", name, s)
		}
	}
}

// What a file decompresses to is bounded, however small the file is.
func TestGzipBomb(t *testing.T) {
	t.Parallel()
	bomb := zip(t, request("a")+"\n"+strings.Repeat(" ", 8<<20))
	_, r, err := readWhole(t, bytes.NewReader(bomb), Config{Limits: Limits{MaxFileBytes: 1 << 20}})
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Lines[len(invalid.Lines)-1].Code != CodeFileTooLarge || !strings.Contains(err.Error(), "decompressed") {
		t.Errorf("error %v", err)
	}
	if r.lines.bytes > 1<<20 {
		t.Errorf("%d bytes were read", r.lines.bytes)
	}
}

// A source that fails is no damaged file.
func TestGzipSourceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	packed := zip(t, request("a"))
	for n := range packed {
		source := io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken))
		if _, _, err := readWhole(t, source, Config{}); !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}
