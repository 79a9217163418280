package api

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
)

const (
	maxFields     = 16
	maxFieldBytes = 1 << 10
	// formBytes is room for everything in a form but the file.
	formBytes = 1 << 20
	minExpiry = time.Hour
	maxExpiry = 30 * 24 * time.Hour
)

// uploadParams are empty: the form is read as it arrives.
type uploadParams struct{}

func (*uploadParams) read(*input) {}

// uploadFile stores the file as it arrives. The fields of the form may come
// before or after it: the file is made ready when all are known to be good.
func (s *Server) uploadFile(c *call, _ uploadParams) error {
	ctx, cancel := s.uploadTime(c.Context())
	defer cancel()
	leave, err := s.uploads.enter(ctx, c.owner)
	if err != nil {
		return orTooLong(ctx, err)
	}
	defer leave()
	id, err := s.receive(ctx, c)
	if err != nil {
		return orTooLong(ctx, err)
	}
	f, err := s.cfg.Store.GetFile(c.Context(), c.owner, id)
	if err != nil {
		return err
	}
	object, err := s.surveyed(c.Context(), f)
	if err != nil {
		return err
	}
	s.writeJSON(c.w, http.StatusOK, object)
	return nil
}

// uploadTime bounds how long an upload, or a part of one, has a place: a client
// may be slow, but not for ever.
func (s *Server) uploadTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.UploadTimeout)
}

// orTooLong says that an upload failed because its time was over.
func orTooLong(ctx context.Context, err error) error {
	// The read that fails may do so an instant before the context ends.
	if deadline, _ := ctx.Deadline(); time.Now().Before(deadline) {
		return err
	}
	return &apiError{status: http.StatusRequestTimeout, kind: invalidRequest, code: "upload_timeout",
		message: "The upload took too long, and nothing of it was kept. Send less at once, or in parts with POST /v1/uploads."}
}

func (s *Server) receive(ctx context.Context, c *call) (batch.FileID, error) {
	media, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" || params["boundary"] == "" {
		return batch.FileID{}, unsupportedMedia("multipart/form-data with a boundary")
	}
	limit := s.cfg.Limits.MaxFileBytes + formBytes
	if c.ContentLength > limit {
		return batch.FileID{}, tooLarge("The upload is larger than %d bytes.", limit)
	}
	body, err := c.bodyReader(s.pacedReader(ctx, c), limit)
	if err != nil {
		return batch.FileID{}, err
	}
	u := &upload{body: &formReader{r: body}, fields: make(map[string]string)}
	u.parts = multipart.NewReader(u.body, params["boundary"])
	file, err := u.readFields()
	if err != nil {
		return batch.FileID{}, u.explain(err)
	}
	if file == nil {
		return batch.FileID{}, invalid("file", codeMissing, "The form has no file.")
	}
	lines, err := jsonl.NewReader(u.content(file), s.fileReader())
	if err != nil {
		return batch.FileID{}, err
	}
	id, _, err := s.cfg.Tracer.Upload(ctx, func(ctx context.Context) (batch.FileID, batch.FileSummary, error) {
		return jsonl.Load(ctx, s.cfg.Store, lines, filename(file), c.owner, s.finishUpload(u))
	})
	return id, u.explain(err)
}

// upload is a form that is being read.
type upload struct {
	body     *formReader
	parts    *multipart.Reader
	fields   map[string]string
	seenFile bool
	expiry   time.Duration // 0: the form says nothing
	cut      bool          // the form ended before its file did
}

// content reads a file of the form, and notes if the form was cut short: such an
// error looks like one of the database's connection.
func (u *upload) content(part io.Reader) io.Reader { return &formFile{part, u} }

type formFile struct {
	io.Reader
	form *upload
}

func (f *formFile) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && err != io.EOF {
		f.form.cut = true
	}
	return n, err
}

// formReader remembers how its source failed.
type formReader struct {
	r   io.Reader
	err error
}

func (b *formReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// explain tells a connection that failed from a form that is wrong.
func (u *upload) explain(err error) error {
	var known *apiError
	var refused *jsonl.InvalidFileError
	switch {
	case err == nil || errors.As(err, &known) || errors.As(err, &refused):
		return err
	case u.body.err != nil:
		return readError(u.body.err)
	case u.cut:
		return malformed()
	}
	return err
}

func malformed() *apiError {
	return invalid("", "invalid_form", "The body is not a complete multipart/form-data form.")
}

// readFields reads on to the file or to the end of the form, whose fields it
// then checks. It returns nil at the end.
func (u *upload) readFields() (*multipart.Part, error) {
	for {
		part, err := u.parts.NextRawPart()
		if err == io.EOF {
			return nil, u.check()
		}
		if err != nil {
			if u.body.err != nil {
				return nil, err
			}
			return nil, malformed()
		}
		name := part.FormName()
		if name == "file" {
			if u.seenFile {
				return nil, invalid("file", "duplicate_parameter", "The form has two files.")
			}
			u.seenFile = true
			return part, nil
		}
		if err := u.field(name, part); err != nil {
			return nil, err
		}
	}
}

var knownFields = []string{"purpose", fieldAnchor, fieldSeconds, fieldAnchorDotted, fieldSecondsDotted}

const (
	fieldAnchor        = "expires_after[anchor]"
	fieldSeconds       = "expires_after[seconds]"
	fieldAnchorDotted  = "expires_after.anchor"
	fieldSecondsDotted = "expires_after.seconds"
)

func (u *upload) field(name string, part io.Reader) error {
	if !slices.Contains(knownFields, name) {
		return invalid(name, "unknown_parameter", "Unknown parameter: %s.", quote(name))
	}
	name = strings.Replace(name, ".anchor", "[anchor]", 1)
	name = strings.Replace(name, ".seconds", "[seconds]", 1)
	if _, twice := u.fields[name]; twice || len(u.fields) == maxFields {
		return invalid(name, "duplicate_parameter", "%s is given twice.", name)
	}
	value, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
	if err != nil {
		if u.body.err != nil {
			return err
		}
		return malformed()
	}
	if len(value) > maxFieldBytes {
		return invalid(name, codeInvalid, "%s is longer than %d bytes.", name, maxFieldBytes)
	}
	u.fields[name] = string(value)
	// What cannot become right is refused before the file is read.
	if name == "purpose" {
		return u.checkPurpose()
	}
	return nil
}

func (u *upload) checkPurpose() error {
	switch u.fields["purpose"] {
	case batch.PurposeBatch:
		return nil
	case "":
		return invalid("purpose", codeMissing, "purpose is required: it must be batch.")
	}
	return invalid("purpose", codeInvalid, "purpose must be batch.")
}

func (u *upload) check() error {
	if err := u.checkPurpose(); err != nil {
		return err
	}
	anchor, hasAnchor := u.fields[fieldAnchor]
	seconds, hasSeconds := u.fields[fieldSeconds]
	if !hasAnchor && !hasSeconds {
		return nil
	}
	if anchor != anchorCreatedAt {
		return invalid(fieldAnchor, codeInvalid, "expires_after[anchor] must be created_at.")
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || !validExpiry(n) {
		return invalid(fieldSeconds, codeInvalid, "expires_after[seconds] must be %s.", expiryRange)
	}
	u.expiry = time.Duration(n) * time.Second
	return nil
}

const expiryRange = "a whole number from 3600 (1 hour) to 2592000 (30 days)"

func validExpiry(seconds int64) bool {
	return seconds >= int64(minExpiry/time.Second) && seconds <= int64(maxExpiry/time.Second)
}

// finishUpload makes a file ready only after the rest of its form was read and
// is good. It sets the expiry first: a crash after that leaves an upload that
// was abandoned.
func (s *Server) finishUpload(form *upload) jsonl.Finish {
	return func(ctx context.Context, id batch.FileID, summary batch.FileSummary) error {
		if _, err := form.readFields(); err != nil {
			return err
		}
		if form.expiry > 0 {
			if err := s.cfg.Store.SetFileExpiry(ctx, id, form.expiry); err != nil {
				return err
			}
		}
		summary.ModelLimits = s.cfg.ModelLimits
		return s.cfg.Store.FinishFile(ctx, id, summary)
	}
}

// filename is what the client calls the file, without its directory. It is
// only shown, never opened.
func filename(part *multipart.Part) string { return cleanName(part.FileName()) }

func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, "\uFFFD"))
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	for len(name) > maxFilenameBytes {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return name
}
