package api

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	maxUploadBytes = 8 << 30
	uploadPrefix   = "upload_"
	partPrefix     = "part_"
	// kindUpload is what OpenAI's errors call an upload.
	kindUpload = "Upload object"
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

func uploadName(id postgres.UploadID) string { return uploadPrefix + hex.EncodeToString(id[:]) }

// parseToken reads an id exactly as it is shown.
func parseToken(text, prefix string) (id [16]byte, ok bool) {
	digits, found := strings.CutPrefix(text, prefix)
	raw, err := hex.DecodeString(digits)
	if !found || err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != digits {
		return id, false
	}
	return [16]byte(raw), true
}

// uploadIDParams name an upload.
type uploadIDParams struct{ id postgres.UploadID }

func (p *uploadIDParams) read(in *input) {
	id, ok := parseToken(in.pathID(kindUpload), uploadPrefix)
	if !ok {
		in.missing()
	}
	p.id = id
}

// pendingUpload finds an upload that takes parts.
func (s *Server) pendingUpload(ctx context.Context, who caller, id postgres.UploadID) (postgres.Upload, error) {
	u, err := s.cfg.Store.GetUpload(ctx, who.owner, id)
	if err == nil && u.Status != postgres.UploadPending {
		err = &batch.UploadStateError{Status: u.Status}
	}
	return u, err
}

// showUpload shows an upload as it is now.
func (s *Server) showUpload(ctx context.Context, who caller, id postgres.UploadID) (uploadObject, error) {
	u, err := s.cfg.Store.GetUpload(ctx, who.owner, id)
	if err != nil {
		return uploadObject{}, err
	}
	out := uploadObject{
		ID: uploadName(u.ID), Object: "upload", Bytes: u.Bytes, CreatedAt: u.CreatedAt.Unix(), ExpiresAt: u.ExpiresAt.Unix(),
		Filename: u.Filename, Purpose: batch.PurposeBatch, Status: u.Status,
	}
	if u.File != (batch.FileID{}) {
		f, err := s.cfg.Store.GetFile(ctx, who.owner, u.File)
		if err == nil {
			object, err := s.surveyed(ctx, f)
			if err != nil {
				return uploadObject{}, err
			}
			out.File = &object
		} else if !errors.Is(err, batch.ErrNotFound) { // it may have been deleted
			return uploadObject{}, err
		}
	}
	return out, nil
}

// newUploadParams are the body that creates an upload.
type newUploadParams struct {
	body struct {
		Filename     string        `json:"filename"`
		Purpose      string        `json:"purpose"`
		Bytes        int64         `json:"bytes"`
		MIMEType     string        `json:"mime_type"`
		ExpiresAfter *expiresAfter `json:"expires_after"`
	}
	filename string // without its directory
	expiry   time.Duration
}

func (p *newUploadParams) read(in *input) {
	in.json(&p.body)
	in.required("purpose", p.body.Purpose, maxNameBytes)
	if p.body.Purpose != batch.PurposeBatch {
		in.fail(invalid("purpose", codeInvalid, "purpose must be batch."))
	}
	in.required("filename", p.body.Filename, maxFilenameBytes)
	if p.filename = cleanName(p.body.Filename); p.filename == "" {
		in.fail(invalid("filename", codeInvalid, "filename must name a file."))
	}
	if p.body.MIMEType != "" {
		in.checkText("mime_type", p.body.MIMEType, maxMIMETypeBytes)
	}
	if p.body.Bytes < 1 {
		in.fail(invalid("bytes", codeInvalid, "bytes must be the size of the whole file."))
	}
	p.expiry = p.body.ExpiresAfter.duration(in, "expires_after")
}

func (s *Server) createUpload(ctx context.Context, who caller, p newUploadParams) (uploadObject, error) {
	if most := min(s.cfg.Limits.MaxFileBytes, maxUploadBytes); p.body.Bytes > most {
		return uploadObject{}, tooLarge("The file is larger than %d bytes.", most)
	}
	id, err := s.cfg.Store.CreateUpload(ctx, postgres.Upload{Owner: who.owner, Filename: p.filename, Bytes: p.body.Bytes, FileExpires: p.expiry})
	if err != nil {
		return uploadObject{}, err
	}
	return s.showUpload(ctx, who, id)
}

func (s *Server) cancelUpload(ctx context.Context, who caller, p uploadIDParams) (uploadObject, error) {
	if err := s.cfg.Store.CancelUpload(ctx, who.owner, p.id); err != nil {
		return uploadObject{}, err
	}
	return s.showUpload(ctx, who, p.id)
}
