package api

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"fusillade/internal/postgres"
)

const (
	// chunkBytes is what of a part is in memory.
	chunkBytes   = 1 << 20
	removingPart = 10 * time.Second
)

type partObject struct {
	ID        string `json:"id"`
	Object    string `json:"object"`
	CreatedAt int64  `json:"created_at"`
	UploadID  string `json:"upload_id"`
}

func partName(id postgres.PartID) string { return partPrefix + hex.EncodeToString(id[:]) }

// addPart stores a part as it arrives. Nothing remains of one that does not
// arrive whole, but for a crash, after which the purge removes it with its
// upload.
func (s *Server) addPart(c *call, p uploadIDParams) error {
	u, err := s.pendingUpload(c.Context(), c.caller, p.id)
	if err != nil {
		return err
	}
	ctx, cancel := s.uploadTime(c.Context())
	defer cancel()
	leave, err := s.uploads.enter(ctx, c.owner)
	if err != nil {
		return orTooLong(ctx, err)
	}
	defer leave()
	data, form, err := s.partForm(ctx, c)
	if err != nil {
		return orTooLong(ctx, err)
	}
	part, err := s.cfg.Store.BeginPart(ctx, u.ID)
	if err != nil {
		return err
	}
	if err := s.storePart(ctx, u.ID, part, form.content(data)); err != nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), removingPart)
		defer cancel()
		return errors.Join(orTooLong(ctx, form.explain(err)), s.cfg.Store.RemovePart(removing, part))
	}
	s.writeJSON(c.w, http.StatusOK, partObject{
		ID: partName(part), Object: "upload.part", CreatedAt: time.Now().Unix(), UploadID: uploadName(u.ID),
	})
	return nil
}

// partForm reads on to the data of a form.
func (s *Server) partForm(ctx context.Context, c *call) (*multipart.Part, *upload, error) {
	media, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" || params["boundary"] == "" {
		return nil, nil, unsupportedMedia("multipart/form-data with a boundary")
	}
	limit := s.cfg.MaxPartBytes + formBytes
	if c.ContentLength > limit {
		return nil, nil, tooLarge("The part is larger than %d bytes.", s.cfg.MaxPartBytes)
	}
	body, err := c.bodyReader(s.pacedReader(ctx, c), limit)
	if err != nil {
		return nil, nil, err
	}
	form := &upload{body: &formReader{r: body}}
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
		return nil, nil, invalid(data.FormName(), "unknown_parameter", "Unknown parameter: %s.", quote(data.FormName()))
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
			if err := s.cfg.Store.AddChunk(ctx, part, i, chunk[:n]); err != nil {
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
	return s.cfg.Store.FinishPart(ctx, id, part, total)
}
