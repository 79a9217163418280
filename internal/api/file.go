package api

import (
	"context"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// fileObject is OpenAI's file object.
type fileObject struct {
	ID            string        `json:"id"`
	Object        string        `json:"object"`
	Bytes         int64         `json:"bytes"` // 0 for output and error files, whose lines are made when they are read
	CreatedAt     int64         `json:"created_at"`
	ExpiresAt     *int64        `json:"expires_at"`
	Filename      string        `json:"filename"`
	Purpose       string        `json:"purpose"`
	Status        string        `json:"status"`
	StatusDetails *string       `json:"status_details"`
	Survey        *surveyObject `json:"x_survey"` // nil: it was not surveyed, or is listed
}

func (f fileObject) id() string { return f.ID }

const (
	fileProcessed = "processed"
	fileGrowing   = "uploaded"
)

func inputFile(f postgres.File) fileObject {
	return fileObject{
		ID: f.ID.String(), Object: "file", Bytes: f.Bytes, CreatedAt: f.CreatedAt.Unix(), ExpiresAt: unix(f.ExpiresAt),
		Filename: f.Filename, Purpose: batch.PurposeBatch, Status: fileProcessed,
	}
}

func resultFile(f batch.ResultFile, b postgres.Batch) fileObject {
	out := fileObject{
		ID: f.String(), Object: "file", CreatedAt: b.CreatedAt.Unix(), ExpiresAt: unix(b.OutputExpiresAt),
		Filename: resultFilename(f), Purpose: batch.PurposeBatchOutput, Status: fileProcessed,
	}
	if !b.Status.Terminal() {
		out.Status = fileGrowing
	}
	return out
}

func resultFilename(f batch.ResultFile) string {
	if f.Errors {
		return f.Batch.String() + "_error.jsonl"
	}
	return f.Batch.String() + "_output.jsonl"
}

func listedFile(f postgres.ListedFile) fileObject {
	if f.Kind == postgres.InputFile {
		return inputFile(f.File)
	}
	return resultFile(batch.ResultFile{Batch: batch.ID(f.ID), Errors: f.Kind == postgres.ErrorFile},
		postgres.Batch{CreatedAt: f.CreatedAt, OutputExpiresAt: f.ExpiresAt, Status: batch.StatusCompleted})
}

// fileRef is what a file's id names.
type fileRef struct {
	text   string
	input  batch.FileID
	result *batch.ResultFile // nil: it names an input file
}

// kindFile is what OpenAI's errors call a file.
const kindFile = "File object"

// parseFile reads an id exactly as it is shown.
func parseFile(text string) (fileRef, bool) {
	if f, err := batch.ParseResultFile(text); err == nil {
		return fileRef{text: text, result: &f}, true
	}
	id, err := batch.ParseFileID(text)
	return fileRef{text: text, input: id}, err == nil && id.String() == text
}

// resultBatch returns the batch of an output or error file that can be read:
// one that has lines, or may still get some, and was not deleted.
func (s *Server) resultBatch(ctx context.Context, who caller, f batch.ResultFile) (postgres.Batch, error) {
	b, err := s.cfg.Store.GetBatch(ctx, f.Batch, &who.owner)
	if err == nil && (resultLines(f, b) == 0 && b.Status.Terminal() || resultDeleted(f, b)) {
		err = batch.ErrNotFound
	}
	return b, err
}

func resultDeleted(f batch.ResultFile, b postgres.Batch) bool {
	if f.Errors {
		return b.ErrorsDeleted
	}
	return b.OutputDeleted
}

// resultLines is the number of lines that the file has by now.
func resultLines(f batch.ResultFile, b postgres.Batch) int64 {
	if f.Errors {
		return b.Unsuccessful()
	}
	return b.Counts.Completed
}

// fileParams name a file.
type fileParams struct{ ref fileRef }

func (p *fileParams) read(in *input) {
	var ok bool
	if p.ref, ok = parseFile(in.pathID(kindFile)); !ok {
		in.missing()
	}
}

func (s *Server) getFile(ctx context.Context, who caller, p fileParams) (fileObject, error) {
	if p.ref.result != nil {
		b, err := s.resultBatch(ctx, who, *p.ref.result)
		return resultFile(*p.ref.result, b), err
	}
	f, err := s.cfg.Store.GetFile(ctx, who.owner, p.ref.input)
	if err != nil {
		return fileObject{}, err
	}
	return s.surveyed(ctx, f)
}

type deletedObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

func (s *Server) deleteFile(ctx context.Context, who caller, p fileParams) (deletedObject, error) {
	deleted := deletedObject{ID: p.ref.text, Object: "file", Deleted: true}
	if p.ref.result != nil {
		b, err := s.resultBatch(ctx, who, *p.ref.result)
		if err == nil && !b.Status.Terminal() {
			err = conflict("batch_in_progress", "The batch of this file is in progress. Cancel it first.")
		}
		if err == nil {
			err = s.cfg.Store.DeleteResultFile(ctx, who.owner, *p.ref.result)
		}
		return deleted, err
	}
	_, err := s.cfg.Store.GetFile(ctx, who.owner, p.ref.input)
	if err == nil {
		_, err = s.cfg.Controller.DeleteFile(ctx, p.ref.input)
	}
	return deleted, err
}

const maxListedFiles = 10_000

// fileListParams ask for the files that follow one.
type fileListParams struct {
	after     *postgres.ListedFile // nil: from the first on
	limit     int
	ascending bool   // by creation
	purpose   string // empty: any
}

func (p *fileListParams) read(in *input) {
	if after, given := in.text("after", maxIDBytes); given {
		ref, ok := parseFile(after)
		if !ok {
			in.fail(invalid("after", codeInvalid, "after must be the id of a file."))
		}
		p.after = listedAt(ref)
	}
	p.limit = int(in.number("limit", maxListedFiles, 1, maxListedFiles))
	p.ascending = in.oneOf("order", "desc", "asc", "desc") == "asc"
	p.purpose, _ = in.text("purpose", maxNameBytes)
}

func (s *Server) listFiles(ctx context.Context, who caller, p fileListParams) (page[fileObject], error) {
	files, err := s.cfg.Store.ListFiles(ctx, postgres.FileQuery{
		Owner: who.owner, After: p.after, Ascending: p.ascending, Limit: p.limit + 1,
		Inputs:  p.purpose == "" || p.purpose == batch.PurposeBatch,
		Results: p.purpose == "" || p.purpose == batch.PurposeBatchOutput,
	})
	return pageOf(files, p.limit, listedFile), err
}

// listedAt is a file's place in the list, whether it is there or not.
func listedAt(ref fileRef) *postgres.ListedFile {
	at := &postgres.ListedFile{File: postgres.File{ID: ref.input}}
	if ref.result != nil {
		at.Kind, at.ID = postgres.OutputFile, batch.FileID(ref.result.Batch)
		if ref.result.Errors {
			at.Kind = postgres.ErrorFile
		}
	}
	return at
}
