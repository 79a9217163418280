package api

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

const (
	maxUploadBytes = 8 << 30
	// chunkBytes is what of a part is in memory.
	chunkBytes   = 1 << 20
	removingPart = 10 * time.Second
	uploadPrefix = "upload_"
	partPrefix   = "part_"
)

// uploadObject is OpenAI's upload object.
type uploadObject struct {
	ID        string      `json:"id"`
	Object    string      `json:"object"`
	Bytes     int64       `json:"bytes"`
	CreatedAt int64       `json:"created_at"`
	ExpiresAt int64       `json:"expires_at"`
	Filename  string      `json:"filename"`
	Purpose   string      `json:"purpose"`
	Status    string      `json:"status"`
	File      *fileObject `json:"file"`
}

type partObject struct {
	ID        string `json:"id"`
	Object    string `json:"object"`
	CreatedAt int64  `json:"created_at"`
	UploadID  string `json:"upload_id"`
}

func uploadName(id postgres.UploadID) string { return uploadPrefix + hex.EncodeToString(id[:]) }

func parseToken(text, prefix string) (id [16]byte, ok bool) {
	digits, found := strings.CutPrefix(text, prefix)
	raw, err := hex.DecodeString(digits)
	if !found || err != nil || len(raw) != len(id) {
		return id, false
	}
	return [16]byte(raw), true
}

// ownUpload finds the caller's upload that the path names.
func (s *Server) ownUpload(c *call) (postgres.Upload, error) {
	text := c.PathValue("id")
	id, ok := parseToken(text, uploadPrefix)
	if !ok {
		return postgres.Upload{}, notFound("Upload object", text)
	}
	u, err := s.cfg.Store.GetUpload(c.Context(), c.owner, id)
	return u, orNotFound(err, "Upload object", text)
}

// showUpload shows an upload as it is now.
func (s *Server) showUpload(c *call, id postgres.UploadID) (any, error) {
	u, err := s.cfg.Store.GetUpload(c.Context(), c.owner, id)
	if err != nil {
		return nil, orNotFound(err, "Upload object", uploadName(id))
	}
	out := uploadObject{
		ID: uploadName(u.ID), Object: "upload", Bytes: u.Bytes, CreatedAt: u.CreatedAt.Unix(), ExpiresAt: u.ExpiresAt.Unix(),
		Filename: u.Filename, Purpose: batch.PurposeBatch, Status: u.Status,
	}
	if u.File != (batch.FileID{}) {
		f, err := s.cfg.Store.GetFile(c.Context(), c.owner, u.File)
		if err == nil {
			object := inputFile(f)
			out.File = &object
		} else if !errors.Is(err, batch.ErrNotFound) { // it may have been deleted
			return nil, err
		}
	}
	return out, nil
}

// newUpload is the body that begins an upload.
type newUpload struct {
	Filename     string        `json:"filename"`
	Purpose      string        `json:"purpose"`
	Bytes        int64         `json:"bytes"`
	MIMEType     string        `json:"mime_type"`
	ExpiresAfter *expiresAfter `json:"expires_after"`
}

func (s *Server) createUpload(c *call) (any, error) {
	var n newUpload
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	u := postgres.Upload{Owner: c.owner, Filename: cleanName(n.Filename), Bytes: n.Bytes}
	most := min(s.cfg.Limits.MaxFileBytes, maxUploadBytes)
	switch {
	case n.Purpose == "":
		return nil, invalid("purpose", codeMissing, "purpose is required: it must be batch.")
	case n.Purpose != batch.PurposeBatch:
		return nil, invalid("purpose", codeInvalid, "purpose must be batch.")
	case u.Filename == "":
		return nil, invalid("filename", codeMissing, "filename is required.")
	case n.Bytes < 1:
		return nil, invalid("bytes", codeInvalid, "bytes must be the size of the whole file.")
	case n.Bytes > most:
		return nil, tooLarge("The file is larger than %d bytes.", most)
	}
	if e := n.ExpiresAfter; e != nil {
		if e.Anchor != anchorCreatedAt || !validExpiry(e.Seconds) {
			return nil, invalid("expires_after", codeInvalid, "expires_after must have the anchor created_at and seconds that are %s.", expiryRange)
		}
		u.FileExpires = time.Duration(e.Seconds) * time.Second
	}
	id, err := s.cfg.Store.CreateUpload(c.Context(), u)
	if errors.Is(err, batch.ErrConflict) {
		return nil, &apiError{status: http.StatusTooManyRequests, kind: "rate_limit_error", code: "too_many_uploads",
			message: "Too many uploads are pending. Complete or cancel some.", retryAfter: s.cfg.RetryAfter}
	}
	if err != nil {
		return nil, err
	}
	return s.showUpload(c, id)
}

const codeUploadEnded = "upload_ended"

func notPending(u postgres.Upload) error {
	return conflict(codeUploadEnded, "The upload is %s.", u.Status)
}

func takesNoMore() error { return conflict(codeUploadEnded, "The upload takes no more parts.") }

// addPart stores a part as it arrives. Nothing remains of one that does not
// arrive whole, but for a crash, after which the purge removes it with its
// upload.
func (s *Server) addPart(c *call) error {
	u, err := s.ownUpload(c)
	if err != nil {
		return err
	}
	if u.Status != postgres.UploadPending {
		return notPending(u)
	}
	leave, err := s.uploads.enter(c.Context())
	if err != nil {
		return err
	}
	defer leave()
	data, form, err := s.partForm(c)
	if err != nil {
		return err
	}
	part, err := s.cfg.Store.BeginPart(c.Context(), u.ID)
	if errors.Is(err, batch.ErrConflict) {
		return takesNoMore()
	}
	if err != nil {
		return err
	}
	if err := s.storePart(c.Context(), u.ID, part, data); err != nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), removingPart)
		defer cancel()
		return errors.Join(form.explain(err), s.cfg.Store.RemovePart(removing, part))
	}
	s.writeJSON(c.w, http.StatusOK, partObject{
		ID: partPrefix + hex.EncodeToString(part[:]), Object: "upload.part", CreatedAt: time.Now().Unix(), UploadID: uploadName(u.ID),
	})
	return nil
}

// partForm reads on to the data of a form.
func (s *Server) partForm(c *call) (*multipart.Part, *upload, error) {
	media, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" || params["boundary"] == "" {
		return nil, nil, unsupportedMedia("multipart/form-data with a boundary")
	}
	limit := s.cfg.MaxPartBytes + formBytes
	if c.ContentLength > limit {
		return nil, nil, tooLarge("The part is larger than %d bytes.", s.cfg.MaxPartBytes)
	}
	paced := &pacedReader{Reader: c.Body, control: http.NewResponseController(c.w), timeout: s.cfg.ClientTimeout}
	form := &upload{body: &bodyReader{r: http.MaxBytesReader(c.w, io.NopCloser(paced), limit)}}
	form.parts = multipart.NewReader(form.body, params["boundary"])
	data, err := form.parts.NextRawPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil, invalid("data", codeMissing, "The form has no data.")
	case err != nil && form.body.err != nil:
		return nil, nil, readError(form.body.err)
	case err != nil:
		return nil, nil, malformed()
	case data.FormName() != "data":
		return nil, nil, invalid(data.FormName(), "unknown_parameter", "Unknown parameter: %s.", shown(data.FormName()))
	}
	return data, form, nil
}

func (s *Server) storePart(ctx context.Context, id postgres.UploadID, part postgres.PartID, data io.Reader) error {
	chunk := make([]byte, chunkBytes)
	total := int64(0)
	for i := 0; ; i++ {
		n, err := io.ReadFull(data, chunk)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		// The reader of a form says so too when the form is cut short.
		whole := err == nil
		if total += int64(n); total > s.cfg.MaxPartBytes {
			return tooLarge("The part is larger than %d bytes.", s.cfg.MaxPartBytes)
		}
		if n > 0 {
			err := s.cfg.Store.AddChunk(ctx, part, i, chunk[:n])
			if errors.Is(err, batch.ErrConflict) {
				return takesNoMore()
			}
			if err != nil {
				return err
			}
		}
		if whole {
			continue
		}
		if _, err := data.Read(chunk[:1]); err != io.EOF {
			return io.ErrUnexpectedEOF
		}
		break
	}
	err := s.cfg.Store.FinishPart(ctx, id, part, total)
	if errors.Is(err, batch.ErrConflict) {
		return conflict(codeUploadEnded, "The upload takes no more parts, or has more than twice its bytes.")
	}
	return err
}

// completion is the body that completes an upload.
type completion struct {
	PartIDs []string `json:"part_ids"`
	MD5     string   `json:"md5"`
}

// completeUpload reads the parts in order as a file that is uploaded whole. A
// file that is refused leaves the upload as it was. Asked again, it shows what
// came of it.
func (s *Server) completeUpload(c *call) (any, error) {
	var body completion
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	u, err := s.ownUpload(c)
	if err != nil {
		return nil, err
	}
	if u.Status == "completed" {
		return s.showUpload(c, u.ID)
	}
	if u.Status != postgres.UploadPending {
		return nil, notPending(u)
	}
	content := &partsReader{ctx: c.Context(), store: s.cfg.Store, sum: md5.New()}
	if content.parts, err = s.wantedParts(c.Context(), u, body.PartIDs); err != nil {
		return nil, err
	}
	leave, err := s.uploads.enter(c.Context())
	if err != nil {
		return nil, err
	}
	defer leave()
	lines, err := jsonl.NewReader(content, jsonl.Config{Limits: s.cfg.Limits})
	if err != nil {
		return nil, err
	}
	store := completingStore{Store: s.cfg.Store, upload: u, content: content, md5: body.MD5}
	if _, _, err := jsonl.Load(c.Context(), store, lines, u.Filename, c.owner); err != nil {
		if errors.Is(err, batch.ErrConflict) || errors.Is(err, errPartGone) {
			return nil, conflict(codeUploadEnded, "The upload was completed or cancelled meanwhile.")
		}
		return nil, err
	}
	return s.showUpload(c, u.ID)
}

// wantedParts are those that make the file, in order.
func (s *Server) wantedParts(ctx context.Context, u postgres.Upload, names []string) ([]partSize, error) {
	sizes, err := s.cfg.Store.PartBytes(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	var parts []partSize
	total := int64(0)
	for _, name := range names {
		id, ok := parseToken(name, partPrefix)
		bytes, there := sizes[id]
		if !ok || !there {
			return nil, invalid("part_ids", codeInvalid, "part_ids has %s, which is no part of this upload, or is given twice.", shown(name))
		}
		delete(sizes, id)
		total += bytes
		parts = append(parts, partSize{id, bytes})
	}
	if total != u.Bytes {
		return nil, invalid("part_ids", codeInvalid, "The parts have %d bytes, the upload was announced with %d.", total, u.Bytes)
	}
	return parts, nil
}

type partSize struct {
	id    postgres.PartID
	bytes int64
}

// errPartGone: its upload ended and was purged.
var errPartGone = errors.New("a part has less than was received")

// partsReader reads parts one after the other, a chunk at a time.
type partsReader struct {
	ctx   context.Context
	store *postgres.Store
	sum   hash.Hash // of what was read
	parts []partSize
	next  int    // chunk of the first part
	rest  []byte // of a chunk
}

func (p *partsReader) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		for len(p.parts) > 0 && p.parts[0].bytes == 0 {
			p.parts, p.next = p.parts[1:], 0
		}
		if len(p.parts) == 0 {
			return 0, io.EOF
		}
		data, err := p.store.Chunk(p.ctx, p.parts[0].id, p.next)
		if err != nil {
			return 0, err
		}
		if len(data) == 0 {
			return 0, errPartGone
		}
		p.next++
		p.parts[0].bytes -= int64(len(data))
		p.rest = data
		p.sum.Write(data)
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// completingStore makes a file ready with its upload.
type completingStore struct {
	*postgres.Store
	upload  postgres.Upload
	content *partsReader
	md5     string // in hexadecimal; empty: not given
}

// FinishFile sets the expiry first: a crash after that leaves a file that was
// abandoned, and the upload as it was.
func (s completingStore) FinishFile(ctx context.Context, id batch.FileID, summary batch.FileSummary) error {
	if sum := hex.EncodeToString(s.content.sum.Sum(nil)); s.md5 != "" && !strings.EqualFold(s.md5, sum) {
		return invalid("md5", "checksum_mismatch", "The MD5 of the parts is %s.", sum)
	}
	if s.upload.FileExpires > 0 {
		if err := s.SetFileExpiry(ctx, id, s.upload.FileExpires); err != nil {
			return err
		}
	}
	return s.FinishUpload(ctx, s.upload.ID, id, summary)
}

func (s *Server) cancelUpload(c *call) (any, error) {
	u, err := s.ownUpload(c)
	if err != nil {
		return nil, err
	}
	err = s.cfg.Store.CancelUpload(c.Context(), c.owner, u.ID)
	if errors.Is(err, batch.ErrConflict) {
		return nil, notPending(u)
	}
	if err != nil {
		return nil, err
	}
	return s.showUpload(c, u.ID)
}
