package api

import (
	"errors"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// fileObject is OpenAI's file object.
type fileObject struct {
	ID            string  `json:"id"`
	Object        string  `json:"object"`
	Bytes         int64   `json:"bytes"` // 0 for output and error files, whose lines are made when they are read
	CreatedAt     int64   `json:"created_at"`
	ExpiresAt     *int64  `json:"expires_at"`
	Filename      string  `json:"filename"`
	Purpose       string  `json:"purpose"`
	Status        string  `json:"status"`
	StatusDetails *string `json:"status_details"`
}

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

func parseFile(text string) (fileRef, error) {
	if f, err := batch.ParseResultFile(text); err == nil {
		return fileRef{text: text, result: &f}, nil
	}
	id, err := batch.ParseFileID(text)
	if err != nil {
		return fileRef{}, notFound("File object", text)
	}
	return fileRef{text: text, input: id}, nil
}

// orNotFound names what was not found.
func orNotFound(err error, kind, id string) error {
	if errors.Is(err, batch.ErrNotFound) {
		return notFound(kind, id)
	}
	return err
}

// resultFile returns the batch of an output or error file that can be read:
// one that has lines, or may still get some, and was not deleted.
func (s *Server) resultFile(c *call, f batch.ResultFile) (postgres.Batch, error) {
	b, err := s.cfg.Store.GetBatch(c.Context(), f.Batch, &c.owner)
	if err != nil {
		return b, orNotFound(err, "File object", f.String())
	}
	if resultLines(f, b) == 0 && b.Status.Terminal() || deleted(f, b) {
		return b, notFound("File object", f.String())
	}
	return b, nil
}

func deleted(f batch.ResultFile, b postgres.Batch) bool {
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

func (s *Server) getFile(c *call) (any, error) {
	ref, err := parseFile(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if ref.result != nil {
		b, err := s.resultFile(c, *ref.result)
		return resultFile(*ref.result, b), err
	}
	f, err := s.cfg.Store.GetFile(c.Context(), c.owner, ref.input)
	return inputFile(f), orNotFound(err, "File object", ref.text)
}

type deletedObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

func (s *Server) deleteFile(c *call) (any, error) {
	ref, err := parseFile(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if ref.result == nil {
		if _, err = s.cfg.Store.GetFile(c.Context(), c.owner, ref.input); err == nil {
			_, err = s.cfg.Controller.DeleteFile(c.Context(), ref.input)
		}
	} else {
		var b postgres.Batch
		if b, err = s.resultFile(c, *ref.result); err == nil && !b.Status.Terminal() {
			err = conflict("batch_in_progress", "The batch of this file has not ended; cancel it first.")
		}
		if err == nil {
			err = s.cfg.Store.DeleteResultFile(c.Context(), c.owner, *ref.result)
		}
	}
	return deletedObject{ID: ref.text, Object: "file", Deleted: true}, orNotFound(err, "File object", ref.text)
}

// list is a page of objects.
type list[T any] struct {
	Object  string  `json:"object"`
	Data    []T     `json:"data"`
	FirstID *string `json:"first_id"`
	LastID  *string `json:"last_id"`
	HasMore bool    `json:"has_more"`
}

// page makes a list of one object more than was asked for, if there is one.
func page[T any](objects []T, limit int, id func(T) string) list[T] {
	out := list[T]{Object: "list", Data: objects, HasMore: len(objects) > limit}
	if out.HasMore {
		out.Data = objects[:limit]
	}
	if n := len(out.Data); n > 0 {
		out.FirstID, out.LastID = optional(id(out.Data[0])), optional(id(out.Data[n-1]))
	}
	return out
}

const maxListedFiles = 10_000

func (s *Server) listFiles(c *call) (any, error) {
	q, err := c.query()
	if err != nil {
		return nil, err
	}
	after, limit := q.text("after"), int(q.number("limit", maxListedFiles, 1, maxListedFiles))
	order, purpose := q.oneOf("order", "desc", "asc"), q.text("purpose")
	if err := q.done(); err != nil {
		return nil, err
	}
	query := postgres.FileQuery{
		Owner: c.owner, Ascending: order == "asc", Limit: limit + 1,
		Inputs:  purpose == "" || purpose == batch.PurposeBatch,
		Results: purpose == "" || purpose == batch.PurposeBatchOutput,
	}
	if after != "" {
		ref, err := parseFile(after)
		if err != nil {
			return nil, invalid("after", "invalid_value", "after must be the id of a file.")
		}
		query.After = listedAt(ref)
	}
	files, err := s.cfg.Store.ListFiles(c.Context(), query)
	if err != nil {
		return nil, err
	}
	objects := make([]fileObject, len(files))
	for i, f := range files {
		objects[i] = listedFile(f)
	}
	return page(objects, limit, func(f fileObject) string { return f.ID }), nil
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
