package api

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

const uploadCompleted = "completed"

// completeParams name an upload, and its parts in the order of the file.
type completeParams struct {
	uploadIDParams
	body struct {
		PartIDs []string `json:"part_ids"`
		MD5     *string  `json:"md5"`
	}
	parts []postgres.PartID
	md5   []byte // nil: not given
}

func (p *completeParams) read(in *input) {
	p.uploadIDParams.read(in)
	in.json(&p.body)
	if len(p.body.PartIDs) > maxParts {
		in.fail(invalid("part_ids", codeInvalid, "part_ids must be at most %d parts.", maxParts))
	}
	p.parts = make([]postgres.PartID, len(p.body.PartIDs))
	for i, name := range p.body.PartIDs {
		var ok bool
		if p.parts[i], ok = parseToken(name, partPrefix); !ok {
			in.fail(invalid("part_ids", codeInvalid, "part_ids has %s, which is no id of a part.", quote(name)))
		}
	}
	if p.body.MD5 != nil {
		var err error
		if p.md5, err = hex.DecodeString(*p.body.MD5); err != nil || len(p.md5) != md5.Size {
			in.fail(invalid("md5", codeInvalid, "md5 must be %d hexadecimal digits.", 2*md5.Size))
		}
	}
}

// completeUpload reads the parts in order as a file that is uploaded whole. A
// file that is refused leaves the upload as it was. Asked again after it was
// done, it shows the same file.
func (s *Server) completeUpload(ctx context.Context, who caller, p completeParams) (uploadObject, error) {
	u, err := s.pendingUpload(ctx, who, p.id)
	if u.Status == uploadCompleted {
		return s.showUpload(ctx, who, p.id)
	}
	if err != nil {
		return uploadObject{}, err
	}
	ctx, cancel := s.uploadTime(ctx)
	defer cancel()
	content := &partsReader{ctx: ctx, store: s.cfg.Store, sum: md5.New()}
	if content.parts, err = s.wantedParts(ctx, u, p.parts); err != nil {
		return uploadObject{}, err
	}
	leave, err := s.uploads.enter(ctx, who.owner)
	if err != nil {
		return uploadObject{}, err
	}
	defer leave()
	lines, err := jsonl.NewReader(content, s.fileReader())
	if err != nil {
		return uploadObject{}, err
	}
	_, _, err = s.cfg.Tracer.Upload(ctx, func(ctx context.Context) (batch.FileID, batch.FileSummary, error) {
		return jsonl.Load(ctx, s.cfg.Store, lines, u.Filename, who.owner, s.finishParts(u, content, p.md5))
	})
	if err != nil {
		return uploadObject{}, orTooLong(ctx, err)
	}
	return s.showUpload(ctx, who, p.id)
}

// finishParts makes a file ready with its upload. It sets the expiry first: a
// crash after that leaves a file that was abandoned, and the upload as it was.
func (s *Server) finishParts(u postgres.Upload, content *partsReader, want []byte) jsonl.Finish {
	return func(ctx context.Context, id batch.FileID, summary batch.FileSummary) error {
		if sum := content.sum.Sum(nil); want != nil && !bytes.Equal(want, sum) {
			return invalid("md5", "checksum_mismatch", "The MD5 of the parts is %x.", sum)
		}
		if u.FileExpires > 0 {
			if err := s.cfg.Store.SetFileExpiry(ctx, id, u.FileExpires); err != nil {
				return err
			}
		}
		summary.ModelLimits = s.cfg.ModelLimits
		return s.cfg.Store.FinishUpload(ctx, u.ID, id, summary)
	}
}

// wantedParts are those that make the file, in order.
func (s *Server) wantedParts(ctx context.Context, u postgres.Upload, ids []postgres.PartID) ([]partSize, error) {
	sizes, err := s.cfg.Store.PartBytes(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	parts := make([]partSize, 0, len(ids))
	total := int64(0)
	for _, id := range ids {
		bytes, there := sizes[id]
		if !there {
			return nil, invalid("part_ids", codeInvalid, "part_ids has %s, which is no part of this upload, or is given twice.", quote(partName(id)))
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

// errPartGone is returned when a part has less than was received: its upload was
// completed, cancelled or expired meanwhile, and was purged.
var errPartGone = fmt.Errorf("a part has less than was received: %w", batch.ErrUploadState)

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
