package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// File is OpenAI's file object. Times are in Unix seconds; 0: none.
type File struct {
	Raw
	ID        string `json:"id"`
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	ExpiresAt int64  `json:"expires_at"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
	Status    string `json:"status"`
	// Survey is nil in lists, of output and error files, and of files that a server
	// stored which did not survey them yet.
	Survey *Survey `json:"x_survey"`
}

// NewFile is a file to upload.
type NewFile struct {
	Name    string
	Content io.Reader
	Size    int64 // of the content in bytes; -1: not known
	// ExpiresAfter is in whole seconds; 0: as the server says.
	ExpiresAfter time.Duration
}

// Upload sends a file of requests as it is read. It is not repeated: the
// content may be a pipe.
func (c *Client) Upload(ctx context.Context, f NewFile) (File, error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	fields := [][2]string{{"purpose", "batch"}}
	if f.ExpiresAfter > 0 {
		fields = append(fields, [2]string{"expires_after[anchor]", "created_at"},
			[2]string{"expires_after[seconds]", strconv.FormatInt(int64(f.ExpiresAfter/time.Second), 10)})
	}
	for _, field := range fields {
		if err := w.WriteField(field[0], field[1]); err != nil {
			return File{}, err
		}
	}
	if _, err := w.CreateFormFile("file", f.Name); err != nil {
		return File{}, err
	}
	before := form.Len()
	if err := w.Close(); err != nil {
		return File{}, err
	}
	length := int64(-1)
	if f.Size >= 0 {
		length = f.Size + int64(form.Len())
	}
	resp, err := c.send(ctx, c.cfg.IdleTimeout, request{
		method: http.MethodPost, path: "/v1/files", contentType: w.FormDataContentType(), length: length,
		body: io.MultiReader(bytes.NewReader(form.Bytes()[:before]), f.Content, bytes.NewReader(form.Bytes()[before:])),
	})
	if err != nil {
		return File{}, err
	}
	defer resp.Close()
	return read[File](c.readJSON(resp))
}

// File returns a file's object.
func (c *Client) File(ctx context.Context, id string) (File, error) {
	return read[File](c.call(ctx, http.MethodGet, "/v1/files/"+url.PathEscape(id), nil, nil))
}

// Files walks the files, newest first, up to n of them; 0: all.
func (c *Client) Files(ctx context.Context, n int) iter.Seq2[File, error] {
	return pages[File](ctx, c, "/v1/files", make(url.Values), n)
}

// DeleteFile deletes a file. Batches of it that are in progress are cancelled.
func (c *Client) DeleteFile(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodDelete, "/v1/files/"+url.PathEscape(id), nil, nil)
	return err
}

// Endpoint returns the URL that the first request of an input file names.
func (c *Client) Endpoint(ctx context.Context, id string) (string, error) {
	resp, err := c.send(ctx, c.cfg.IdleTimeout, request{
		method: http.MethodGet, path: "/v1/files/" + url.PathEscape(id) + "/content", query: url.Values{"limit": {"1"}},
	})
	if err != nil {
		return "", err
	}
	defer resp.Close()
	var first struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(resp).Decode(&first); err != nil || first.URL == "" {
		return "", fmt.Errorf("%s is not a file of requests", id)
	}
	return first.URL, nil
}
