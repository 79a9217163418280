package api_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"fusillade/internal/api"
	"fusillade/internal/jsonl"
)

// part uploads a part.
func (c *client) part(upload, data string) answer {
	c.T.Helper()
	contentType, body := form(field{"data", "blob", data})
	return c.do(http.MethodPost, "/uploads/"+upload+"/parts", contentType, strings.NewReader(body))
}

// uploading begins an upload of this many bytes.
func (c *client) uploading(bytes int) string {
	c.T.Helper()
	return c.post("/uploads", map[string]any{"filename": "dir/in.jsonl", "purpose": "batch", "bytes": bytes, "mime_type": "application/jsonl"}).
		want(c.T, http.StatusOK).text("id")
}

func (c *client) complete(upload string, parts []string, md5 string) answer {
	c.T.Helper()
	body := map[string]any{"part_ids": parts}
	if md5 != "" {
		body["md5"] = md5
	}
	return c.post("/uploads/"+upload+"/complete", body)
}

func md5Of(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// A file in parts, cut anywhere, is the file that the same bytes are as a whole.
func TestUploadInParts(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	content := requests(9000, "m") // more than a chunk
	for name, cuts := range map[string][]int{
		"one": {}, "halves": {len(content) / 2}, "at a line end": {strings.Index(content, "\n") + 1},
		"tiny": {1, 2, 3}, "an empty one": {100, 100}, "at a chunk": {1 << 20},
	} {
		upload := c.uploading(len(content))
		var ids []string
		from := 0
		for _, to := range append(cuts, len(content)) {
			ids = append(ids, c.part(upload, content[from:to]).want(t, http.StatusOK).text("id"))
			from = to
		}
		c.part(upload, "a part that is not used").want(t, http.StatusOK)
		a := c.complete(upload, ids, strings.ToUpper(md5Of(content))).want(t, http.StatusOK)
		file := a.text("file", "id")
		if a.text("status") != "completed" || a.text("file", "filename") != "in.jsonl" || a.value("file", "bytes") != float64(len(content)) {
			t.Errorf("%s: %s", name, a.body)
		}
		if got := c.get("/files/"+file+"/content").want(t, http.StatusOK); string(got.body) != content {
			t.Errorf("%s: the file has other content", name)
		}
		if again := c.complete(upload, ids, "").want(t, http.StatusOK); again.text("file", "id") != file {
			t.Errorf("%s: completed again: %s", name, again.body)
		}
		c.part(upload, "late").wantError(t, http.StatusConflict, "upload_ended")
		c.do(http.MethodPost, "/uploads/"+upload+"/cancel", "", nil).wantError(t, http.StatusConflict, "upload_ended")
	}
}

func TestUploadInPartsRefuses(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Limits, cfg.MaxPartBytes = jsonl.Limits{MaxFileBytes: 1 << 20}, 10_000 })
	c := s.client("alice")
	for _, tt := range []struct {
		member string
		value  any
		status int
		param  any
	}{
		{"purpose", "fine-tune", 400, "purpose"}, {"purpose", nil, 400, "purpose"}, {"filename", "", 400, "filename"},
		{"bytes", 0, 400, "bytes"}, {"bytes", 1<<20 + 1, 413, nil}, {"bytes", "x", 400, "bytes"}, {"colour", "red", 400, "colour"},
		{"expires_after", map[string]any{"anchor": "created_at", "seconds": 1}, 400, "expires_after.seconds"},
	} {
		body := map[string]any{"filename": "a", "purpose": "batch", "bytes": 1}
		if body[tt.member] = tt.value; tt.value == nil {
			delete(body, tt.member)
		}
		if a := c.post("/uploads", body).wantError(t, tt.status, ""); a.value("error", "param") != tt.param {
			t.Errorf("%s %v: %s", tt.member, tt.value, a.body)
		}
	}
	good := requests(3, "m")
	upload := c.uploading(len(good))
	first, second := c.part(upload, good[:50]).text("id"), c.part(upload, good[50:]).text("id")
	other := c.part(c.uploading(5), "other").text("id")
	for name, parts := range map[string][]string{
		"none": {}, "too few": {first}, "twice": {first, first, second}, "another's": {first, second, other}, "nonsense": {"part_1", second},
	} {
		if a := c.complete(upload, parts, ""); a.wantError(t, http.StatusBadRequest, "invalid_value").text("error", "param") != "part_ids" {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	c.complete(upload, []string{first, second}, md5Of("else")).wantError(t, http.StatusBadRequest, "checksum_mismatch")
	// The lines are checked as those of any file, and the upload can be mended.
	a := c.complete(upload, []string{second, first}, "")
	if a.wantError(t, http.StatusBadRequest, ""); !strings.Contains(a.text("error", "message"), "line 1") {
		t.Errorf("parts in the wrong order: %s", a.body)
	}
	s.wantFiles(0)
	c.complete(upload, []string{first, second}, md5Of(good)).want(t, http.StatusOK)
	s.wantFiles(1)

	upload = c.uploading(10)
	contentType, body := form(field{"data", "blob", strings.Repeat("x", 5000)})
	path := "/uploads/" + upload + "/parts"
	c.do(http.MethodPost, path, contentType, strings.NewReader(body[:len(body)-20])).wantError(t, http.StatusBadRequest, "")
	c.do(http.MethodPost, path, contentType, strings.NewReader(body[:3000])).wantError(t, http.StatusBadRequest, "")
	c.do(http.MethodPost, path, "text/plain", strings.NewReader(body)).wantError(t, http.StatusUnsupportedMediaType, "")
	contentType, body = form(field{"file", "blob", "x"})
	c.do(http.MethodPost, path, contentType, strings.NewReader(body)).wantError(t, http.StatusBadRequest, "unknown_parameter")
	c.part(upload, strings.Repeat("x", 10_001)).wantError(t, http.StatusRequestEntityTooLarge, "")
	c.part(upload, strings.Repeat("x", 10_000)).want(t, http.StatusOK)
	if n := s.count(`SELECT count(*) FROM upload_parts WHERE bytes IS NULL`); n > 0 {
		t.Errorf("%d parts are left that were not received whole", n)
	}
	for {
		a := c.post("/uploads", map[string]any{"filename": "a", "purpose": "batch", "bytes": 1})
		if a.status != http.StatusOK {
			a.wantError(t, http.StatusTooManyRequests, "too_many_uploads")
			break
		}
	}
}

// What ended is purged: chunks first, and uploads once they would have expired.
func TestUploadsArePurged(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	good := requests(3, "m")
	completed, cancelled, expired, pending := c.uploading(len(good)), c.uploading(5), c.uploading(5), c.uploading(5)
	id := c.part(completed, good).text("id")
	for _, upload := range []string{cancelled, expired, pending} {
		c.part(upload, "12345").want(t, http.StatusOK)
	}
	c.complete(completed, []string{id}, "").want(t, http.StatusOK)
	c.do(http.MethodPost, "/uploads/"+cancelled+"/cancel", "", nil).want(t, http.StatusOK)
	back := func(upload, age string) {
		t.Helper()
		if _, err := s.DB.Exec(t.Context(), `UPDATE uploads SET expires_at = now() - $2::interval WHERE id = $1::uuid`, strings.TrimPrefix(upload, "upload_"), age); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() string {
		return fmt.Sprint(s.count(`SELECT count(*) FROM uploads`), s.count(`SELECT count(*) FROM upload_parts`), s.count(`SELECT count(*) FROM upload_chunks`))
	}
	back(expired, "1 minute")
	c.part(expired, "x").wantError(t, http.StatusConflict, "upload_ended")
	s.purgeUploads()
	if got, want := counts(), "4 2 2"; got != want {
		t.Errorf("uploads, parts and chunks are %s, want %s: those of the expired and of the pending one", got, want)
	}
	if ids, err := s.Store.EndedUploads(t.Context(), 100); err != nil || len(ids) > 0 {
		t.Errorf("%d uploads are purged again and again, %v", len(ids), err)
	}
	for _, upload := range []string{completed, cancelled, expired} {
		back(upload, "2 hours")
	}
	s.purgeUploads()
	if got, want := counts(), "1 1 1"; got != want {
		t.Errorf("uploads, parts and chunks are %s, want %s: those of the pending one", got, want)
	}
}

func (s *service) purgeUploads() {
	s.T.Helper()
	ids, err := s.Store.EndedUploads(s.T.Context(), 100)
	if err != nil {
		s.T.Fatal(err)
	}
	for _, id := range ids {
		for n := 1; n > 0; {
			if n, err = s.Store.PurgeUpload(s.T.Context(), id, 1000); err != nil {
				s.T.Fatal(err)
			}
		}
	}
}

// tried makes a request whose answer is awaited later.
func (c *client) tried(path, contentType string, body io.Reader) <-chan func() answer {
	done := make(chan func() answer, 1)
	go func() {
		a, err := c.try(http.MethodPost, path, contentType, body)
		done <- func() answer {
			c.T.Helper()
			if err != nil {
				c.T.Fatal(err)
			}
			return a
		}
	}()
	return done
}

// A part that is half received when its upload is cancelled and purged is told
// so, as one that comes later is; so is who completes the upload meanwhile.
func TestUploadIsPurgedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	content := strings.Repeat("x", 3<<20)
	upload := c.uploading(len(content))
	contentType, body := form(field{"data", "blob", content})
	sent, sending := io.Pipe()
	part := c.tried("/uploads/"+upload+"/parts", contentType, sent)
	if _, err := io.WriteString(sending, body[:2<<20]); err != nil {
		t.Fatal(err)
	}
	until(t, "a chunk is stored", func() bool { return s.count(`SELECT count(*) FROM upload_chunks`) > 0 })
	c.do(http.MethodPost, "/uploads/"+upload+"/cancel", "", nil).want(t, http.StatusOK)
	s.purgeUploads()
	go func() {
		_, _ = io.WriteString(sending, body[2<<20:]) // as far as it is read
		_ = sending.Close()
	}()
	(<-part)().wantError(t, http.StatusConflict, "upload_ended")
	c.part(upload, "late").wantError(t, http.StatusConflict, "upload_ended")
	if n := s.count(`SELECT count(*) FROM upload_parts`) + s.count(`SELECT count(*) FROM upload_chunks`); n > 0 {
		t.Errorf("%d parts and chunks are left", n)
	}

	upload = c.uploading(5)
	id := c.part(upload, "12345").want(t, http.StatusOK).text("id")
	tx, err := s.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	exec := func(sql string) {
		t.Helper()
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`LOCK TABLE upload_chunks`)
	completed := c.tried("/uploads/"+upload+"/complete", "application/json", strings.NewReader(fmt.Sprintf(`{"part_ids":[%q]}`, id)))
	until(t, "its parts are about to be read", func() bool {
		return s.count(`SELECT count(*) FROM pg_locks WHERE relation = 'upload_chunks'::regclass AND NOT granted`) > 0
	})
	exec(`UPDATE uploads SET status = 'cancelled' WHERE status = 'pending'`)
	exec(`DELETE FROM upload_parts`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	(<-completed)().wantError(t, http.StatusConflict, "upload_ended")
	s.wantFiles(0)
}

// OpenAI's own client uploads in parts.
func TestSDKUpload(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := openai.NewClient(option.WithBaseURL(s.url), option.WithAPIKey(s.Key("alice", false)), option.WithHTTPClient(&http.Client{Transport: transport}))
	content := requests(50, "m")
	upload, err := c.Uploads.New(t.Context(), openai.UploadNewParams{
		Bytes: int64(len(content)), Filename: "in.jsonl", MimeType: "application/jsonl", Purpose: openai.FilePurposeBatch,
	})
	if err != nil || upload.Status != openai.UploadStatusPending {
		t.Fatalf("%s, %v", upload.RawJSON(), err)
	}
	var parts []string
	for _, data := range []string{content[:1000], content[1000:]} {
		part, err := c.Uploads.Parts.New(t.Context(), upload.ID, openai.UploadPartNewParams{Data: strings.NewReader(data)})
		if err != nil || part.UploadID != upload.ID {
			t.Fatalf("%s, %v", part.RawJSON(), err)
		}
		parts = append(parts, part.ID)
	}
	upload, err = c.Uploads.Complete(t.Context(), upload.ID, openai.UploadCompleteParams{PartIDs: parts, Md5: openai.String(md5Of(content))})
	if err != nil || upload.Status != openai.UploadStatusCompleted || !strings.HasPrefix(upload.File.ID, "file-") {
		t.Fatalf("%s, %v", upload.RawJSON(), err)
	}
	if f, err := c.Files.Get(t.Context(), upload.File.ID); err != nil || f.Bytes != int64(len(content)) {
		t.Errorf("%s, %v", f.RawJSON(), err)
	}
}
