package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/jsonl"
)

func TestUploadForms(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) {
		cfg.Limits = jsonl.Limits{MaxRequests: 5, MaxRequestBytes: 2000, MaxFileBytes: 4000}
	})
	c := s.client("alice")
	purpose := field{"purpose", "", "batch"}
	good := field{"file", "a.jsonl", request("a", "m")}
	anchor, seconds := field{"expires_after[anchor]", "", "created_at"}, field{"expires_after[seconds]", "", "3600"}
	tests := []struct {
		name   string
		form   []field
		status int
		code   string
		in     string // the message
	}{
		{"fields first", []field{purpose, anchor, seconds, good}, 200, "", ""},
		{"file first", []field{good, purpose, anchor, seconds}, 200, "", ""},
		{"file in the middle", []field{anchor, good, seconds, purpose}, 200, "", ""},
		{"no purpose", []field{good}, 400, "missing_parameter", "purpose"},
		{"no file", []field{purpose}, 400, "missing_parameter", "file"},
		{"nothing", nil, 400, "", ""},
		{"other purpose", []field{{"purpose", "", "fine-tune"}, good}, 400, "invalid_value", "purpose"},
		{"other purpose, last", []field{good, {"purpose", "", "fine-tune"}}, 400, "invalid_value", "purpose"},
		{"two purposes", []field{purpose, purpose, good}, 400, "duplicate_parameter", "purpose"},
		{"two files", []field{purpose, good, good}, 400, "duplicate_parameter", "two files"},
		{"unknown field", []field{purpose, {"colour", "", "red"}, good}, 400, "unknown_parameter", "colour"},
		{"long field", []field{{"purpose", "", strings.Repeat("b", 5000)}, good}, 400, "invalid_value", "purpose"},
		{"no anchor", []field{purpose, seconds, good}, 400, "invalid_value", "anchor"},
		{"no seconds", []field{purpose, anchor, good}, 400, "invalid_value", "seconds"},
		{"too soon", []field{purpose, anchor, {"expires_after[seconds]", "", "3599"}, good}, 400, "invalid_value", "3600"},
		{"too late", []field{purpose, anchor, {"expires_after[seconds]", "", "2592001"}, good}, 400, "invalid_value", "2592000"},
		{"empty file", []field{purpose, {"file", "a.jsonl", ""}}, 400, "empty_file", "no request"},
		{"bad lines", []field{purpose, {"file", "a.jsonl", "oops\n\n" + request("a", "m") + request("a", "m")}}, 400, "invalid_json", "line 4"},
		{"too many requests", []field{purpose, {"file", "a.jsonl", requests(6, "m")}}, 400, "too_many_requests", "more than 5"},
		{"long line", []field{purpose, {"file", "a.jsonl", request(strings.Repeat("a", 2000), "m")}}, 400, "request_too_large", "line 1"},
		{"large file", []field{purpose, {"file", "a.jsonl", requests(3, strings.Repeat("m", 200)) + strings.Repeat("\n", 4000)}}, 413, "file_too_large", "4000 bytes"},
		{"mixed endpoints", []field{purpose, {"file", "a.jsonl", request("a", "m") + strings.Replace(request("b", "m"), "chat/completions", "embeddings", 1)}}, 400, "mixed_urls", "line 2"},
	}
	ready := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := c.upload(tt.form...)
			if tt.status == 200 {
				ready++
				a.want(t, 200)
				if created, expires := a.value("created_at").(float64), a.value("expires_at").(float64); expires != created+3600 {
					t.Errorf("created at %v, expires at %v", created, expires)
				}
				return
			}
			a.wantError(t, tt.status, tt.code)
			if !strings.Contains(a.text("error", "message"), tt.in) {
				t.Errorf("message %q, want %q in it", a.text("error", "message"), tt.in)
			}
		})
	}
	s.wantFiles(ready)
}

// wantFiles checks that there are as many files, and no line of another.
func (s *service) wantFiles(n int) {
	s.T.Helper()
	if got := s.count(`SELECT count(*) FROM files`); got != n {
		s.T.Errorf("%d files, want %d", got, n)
	}
	if got := s.count(`SELECT count(*) FROM templates t WHERE NOT EXISTS (SELECT FROM files WHERE id = t.file_id)`); got > 0 {
		s.T.Errorf("%d lines of files that are not there", got)
	}
}

// Every bad line is named, up to a hundred, and the others are counted.
func TestUploadListsBadLines(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	var content strings.Builder
	for i := range 300 {
		content.WriteString(request(fmt.Sprint(i), "m"))
		if i%2 == 1 {
			content.WriteString("{}\n")
		}
	}
	a := s.client("alice").upload(field{"purpose", "", "batch"}, field{"file", "a.jsonl", content.String()})
	message := a.wantError(t, http.StatusBadRequest, "missing_field").text("error", "message")
	for i := range 100 {
		if !strings.Contains(message, fmt.Sprintf("\nline %d: ", 3*(i+1))) {
			t.Errorf("line %d is not named", 3*(i+1))
		}
	}
	if !strings.HasSuffix(message, "\nand 50 more") || strings.Count(message, "\n") != 101 {
		t.Errorf("message ends %q", message[len(message)-40:])
	}
	s.wantFiles(0)
}

func TestUploadRefusesWhatIsNoForm(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	contentType, body := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", requests(50, "m")})
	for _, tt := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"JSON", "application/json", "{}", 415},
		{"no type", "", body, 415},
		{"no boundary", "multipart/form-data", body, 415},
		{"other multipart", strings.Replace(contentType, "form-data", "mixed", 1), body, 415},
		{"other boundary", contentType + "x", body, 400},
		{"empty", contentType, "", 400},
		{"cut in the file", contentType, body[:len(body)/2], 400},
		{"cut at the end", contentType, body[:len(body)-6], 400},
		{"cut in the last boundary", contentType, strings.TrimSuffix(body, "--\r\n"), 400},
		{"noise", contentType, "\x00\xff--\r\n", 400},
	} {
		c.do(http.MethodPost, "/files", tt.contentType, strings.NewReader(tt.body)).wantError(t, tt.status, "")
	}
	s.wantFiles(0)
}

func TestFilenames(t *testing.T) {
	t.Parallel()
	c := newService(t, nil).client("alice")
	for name, want := range map[string]string{
		"requests.jsonl":         "requests.jsonl",
		"../../etc/passwd":       "passwd",
		`C:\Users\me\in.jsonl`:   "in.jsonl",
		"/tmp/a b.jsonl":         "a b.jsonl",
		"größe-日本.jsonl":         "größe-日本.jsonl",
		strings.Repeat("é", 200): strings.Repeat("é", 127),
	} {
		a := c.upload(field{"purpose", "", "batch"}, field{"file", name, request("a", "m")})
		if got := a.want(t, 200).text("filename"); got != want {
			t.Errorf("%q is called %q, want %q", name, got, want)
		}
	}
}

// rawUpload begins an upload on a bare connection, of which the caller sends
// the rest.
func (c *client) rawUpload() net.Conn {
	c.T.Helper()
	u, err := url.Parse(c.url)
	if err != nil {
		c.T.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Cleanup(func() { _ = conn.Close() })
	contentType, body := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", ""})
	_, err = fmt.Fprintf(conn, "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 1000000000\r\n\r\n%s",
		c.key, contentType, body[:strings.LastIndex(body, "\r\n--")])
	if err != nil {
		c.T.Fatal(err)
	}
	return conn
}

// A client dies in the middle of a file: nothing of it remains, without any
// sweep.
func TestUploadKilled(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	conn := c.rawUpload()
	var sent bytes.Buffer
	for i := range 20_000 {
		sent.WriteString(request(fmt.Sprint(i), "m"))
	}
	if _, err := conn.Write(sent.Bytes()); err != nil {
		t.Fatal(err)
	}
	until(t, "lines are stored", func() bool { return s.count(`SELECT count(*) FROM templates`) > 0 })
	if got := c.get("/files").ids(); len(got) > 0 {
		t.Errorf("a file is listed before it is whole: %v", got)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing remains", func() bool {
		return s.count(`SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM templates)`) == 0
	})
}

// A client that stalls is cut off, and nothing of its file remains.
func TestUploadStalled(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.ClientTimeout = 2 * time.Second })
	conn := s.client("alice").rawUpload()
	if _, err := io.WriteString(conn, requests(100, "m")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("the stalled client got an answer")
	}
	until(t, "nothing remains", func() bool { return s.count(`SELECT count(*) FROM files`) == 0 })
}

// No more files are read at once than allowed; the others wait their turn.
func TestUploadsTakeTurns(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.MaxUploads = 1 })
	c := s.client("alice")
	first := c.rawUpload()
	until(t, "the first upload has begun", func() bool { return s.count(`SELECT count(*) FROM files`) == 1 })
	done := make(chan answer, 1)
	go func() {
		a, err := c.try(http.MethodPost, "/files", "multipart/form-data; boundary=b",
			strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"+request("a", "m")+"\r\n--b--\r\n"))
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	select {
	case a := <-done:
		t.Fatalf("it did not wait: %s", a.body)
	case <-time.After(200 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	(<-done).want(t, http.StatusOK)
}

// An owner who uploads slowly holds up themselves alone, and not for ever.
func TestSlowUploads(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	alice, bob := s.client("alice"), s.client("bob")
	for range 4 {
		alice.rawUpload()
	}
	until(t, "alice has the places she can have", func() bool { return s.count(`SELECT count(*) FROM files`) == 2 })
	bob.file(requests(3, "m"))
}

// An upload whose time is over is ended, however steadily it goes on.
func TestUploadTimeout(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.UploadTimeout = time.Second })
	conn := s.client("alice").rawUpload()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // as slowly as is allowed
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			if _, err := io.WriteString(conn, request(fmt.Sprint(i), "m")); err != nil {
				return
			}
		}
	}()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout || resp.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("status %d, headers %v", resp.StatusCode, resp.Header)
	}
	until(t, "nothing remains", func() bool { return s.count(`SELECT count(*) FROM files`) == 0 })
}

// packed compresses with gzip, each text as a member of its own.
func packed(texts ...string) string {
	var out bytes.Buffer
	for _, text := range texts {
		w := gzip.NewWriter(&out)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
	}
	return out.String()
}

// A file may be compressed with gzip: it is read as what it holds, within the
// same bounds. One that is no file of lines is refused with its cause.
func TestUploadFormats(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Limits.MaxFileBytes = 1 << 20 })
	c := s.client("alice")
	content := requests(20, "m")
	file := c.file(packed(content))
	if got := string(c.get("/files/"+file+"/content").want(t, http.StatusOK).body); got != content {
		t.Errorf("the content is %.200q", got)
	}
	upload := packed(content)
	id := c.uploading(len(upload))
	parts := []string{c.part(id, upload[:30]).text("id"), c.part(id, upload[30:]).text("id")}
	done := c.post("/uploads/"+id+"/complete", map[string]any{"part_ids": parts}).want(t, http.StatusOK)
	if got := string(c.get("/files/"+done.text("file", "id")+"/content").want(t, http.StatusOK).body); got != content {
		t.Errorf("the content of the parts is %.200q", got)
	}
	ready := s.count(`SELECT count(*) FROM files`)
	c.uploadContent(packed(content+strings.Repeat("\n", 8<<20))).wantError(t, http.StatusRequestEntityTooLarge, "file_too_large")
	one := strings.TrimSpace(request("é", "m"))
	utf16 := "\xff\xfe"
	for _, r := range one {
		utf16 += string([]byte{byte(r), byte(r >> 8)})
	}
	for name, test := range map[string]struct{ content, want string }{
		"gzip, cut short": {upload[:len(upload)-10], "damaged or cut short"},
		"gzip twice":      {packed(upload), "compressed with gzip twice"},
		"array":           {"[" + one + "]", "this is a JSON array; one object per line is needed"},
		"pretty-printed":  {"{\n  \"custom_id\": \"a\",\n  \"body\": {\n}\n}\n{\n  \"custom_id\": \"b\"\n}\n", "the JSON object goes on after its line"},
		"UTF-16":          {utf16, "the file is UTF-16"},
		"Latin-1":         {strings.Repeat(strings.ReplaceAll(one, "é", "\xe9")+"\n", 9), "line 1: not UTF-8 (byte 15); the byte 0xE9 is 'é' in Latin-1: save the file as UTF-8 (so are 9 lines, up to line 9)"},
		"half a pair":     {strings.Repeat(strings.ReplaceAll(one, "é", `\ud83d`)+"\n", 9), "half of a surrogate pair"},
		"old Mac":         {one + "\r" + one, "carriage returns alone"},
		"joined":          {one + "\n\xef\xbb\xbf" + one, "line 2: begins with a byte order mark"},
	} {
		check := func(how string, a answer) {
			t.Helper()
			message := a.wantError(t, http.StatusBadRequest, "").text("error", "message")
			if strings.Count(message, "\n") != 1 || !strings.Contains(message, "\nline ") || !strings.Contains(message, test.want) {
				t.Errorf("%s, %s: message %q, want %q in its only line", name, how, message, test.want)
			}
		}
		check("whole", c.uploadContent(test.content))
		if !strings.HasPrefix(name, "gzip") {
			check("compressed", c.uploadContent(packed(test.content[:1], test.content[1:])))
		}
		id := c.uploading(len(test.content))
		check("in parts", c.complete(id, []string{c.part(id, test.content[:7]).text("id"), c.part(id, test.content[7:]).text("id")}, ""))
	}
	s.wantFiles(ready)
}

// A whole body may be compressed too. Neither it nor what it holds passes the
// bounds, and one that breaks off says so.
func TestBodiesInGzip(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Limits.MaxFileBytes, cfg.MaxPartBytes = 1<<20, 1<<20 })
	c := s.client("alice")
	content := requests(20, "m")
	contentType, body := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", content})
	upload := func(body, encoding string) answer {
		t.Helper()
		return c.do(http.MethodPost, "/files", contentType, strings.NewReader(body), "Content-Encoding", encoding)
	}
	for _, encoding := range []string{"gzip", "GZIP", "x-gzip", " gzip , identity"} {
		a := upload(packed(body[:100], "", body[100:]), encoding).want(t, http.StatusOK)
		if got := string(c.get("/files/"+a.text("id")+"/content").want(t, http.StatusOK).body); got != content {
			t.Errorf("%s: the content is %.200q", encoding, got)
		}
	}
	_, twice := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl.gz", packed(content)})
	twice = strings.ReplaceAll(twice, twice[2:strings.Index(twice, "\r\n")], body[2:strings.Index(body, "\r\n")])
	upload(packed(twice), "gzip").want(t, http.StatusOK)
	upload(body, "identity").want(t, http.StatusOK)

	_, bomb := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", strings.Repeat("\n", 64<<20)})
	bomb = strings.ReplaceAll(bomb, bomb[2:strings.Index(bomb, "\r\n")], body[2:strings.Index(body, "\r\n")])
	upload(packed(bomb), "gzip").wantError(t, http.StatusRequestEntityTooLarge, "file_too_large")
	whole := packed(body)
	for cut := range []int{0, 5, 40, len(whole) / 2, len(whole) - 1} {
		upload(whole[:cut], "gzip").wantError(t, http.StatusBadRequest, "invalid_encoding")
	}
	upload(body, "gzip").wantError(t, http.StatusBadRequest, "invalid_encoding")
	for _, encoding := range []string{"br", "deflate", "gzip, gzip", "zstd"} {
		if a := upload(body, encoding).wantError(t, http.StatusUnsupportedMediaType, "unsupported_encoding"); a.header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("%s: headers %v", encoding, a.header)
		}
	}

	id := c.uploading(len(content))
	contentType, body = form(field{"data", "blob", content})
	part := c.do(http.MethodPost, "/uploads/"+id+"/parts", contentType, strings.NewReader(packed(body)), "Content-Encoding", "gzip").want(t, http.StatusOK)
	complete := `{"part_ids":["` + part.text("id") + `"]}`
	done := c.do(http.MethodPost, "/uploads/"+id+"/complete", "application/json", strings.NewReader(packed(complete)), "Content-Encoding", "gzip").want(t, http.StatusOK)
	if got := string(c.get("/files/"+done.text("file", "id")+"/content").want(t, http.StatusOK).body); got != content {
		t.Errorf("the content of the parts is %.200q", got)
	}
	s.wantFiles(7)
}
