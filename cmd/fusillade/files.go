package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/client"
	"fusillade/internal/config"
)

type filesCmd struct {
	Ls      filesLsCmd      `cmd:"" help:"List the files."`
	Get     filesGetCmd     `cmd:"" help:"Show a file's object."`
	Upload  filesUploadCmd  `cmd:"" help:"Upload a file of requests; prints its id."`
	Content filesContentCmd `cmd:"" help:"Write the lines of an input, output or error file."`
	Delete  filesDeleteCmd  `cmd:"" help:"Delete a file; batches of it that are in progress are cancelled."`
	remote
}

func rawFile(f client.File) json.RawMessage { return f.JSON }

func checkFileID(text string) error {
	if _, err := batch.ParseResultFile(text); err == nil {
		return nil
	}
	if _, err := batch.ParseFileID(text); err != nil {
		return usage(err)
	}
	return nil
}

type filesLsCmd struct{ listFlags }

func (c *filesLsCmd) Run(ctx context.Context, t *terminal, files *filesCmd) error {
	if err := c.check(); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		return list(t, c.JSON, api.Files(ctx, c.Limit), rawFile, "ID PURPOSE BYTES CREATED EXPIRES NAME", func(f client.File) []string {
			return []string{f.ID, f.Purpose, strconv.FormatInt(f.Bytes, 10), moment(f.CreatedAt), cmp.Or(moment(f.ExpiresAt), "-"), plain(f.Filename)}
		})
	})
}

type filesGetCmd struct {
	ID string `arg:"" placeholder:"FILE_ID"`
	jsonFlag
}

func (c *filesGetCmd) Run(ctx context.Context, t *terminal, files *filesCmd) error {
	if err := checkFileID(c.ID); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		f, err := api.File(ctx, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return t.printRaw(f.JSON)
		}
		return t.printMembers(member{"id", f.ID}, member{"name", f.Filename}, member{"purpose", f.Purpose}, member{"status", f.Status},
			member{"bytes", strconv.FormatInt(f.Bytes, 10)}, member{"created", moment(f.CreatedAt)}, member{"expires", moment(f.ExpiresAt)})
	})
}

type filesUploadCmd struct {
	Input        string `arg:"" placeholder:"FILE|-" help:"Requests, one JSON object per line; - reads standard input."`
	Name         string `placeholder:"TEXT" help:"What to call it. Default: the file's own name."`
	ExpiresAfter string `placeholder:"TIME" help:"When the server may remove it, from 1h to 30d (default 30d)."`
	jsonFlag
}

func (c *filesUploadCmd) Run(ctx context.Context, t *terminal, files *filesCmd) error {
	expiry := time.Duration(0)
	if c.ExpiresAfter != "" {
		var err error
		if expiry, err = config.ParseWindow(c.ExpiresAfter); err != nil {
			return usage(fmt.Errorf("--expires-after: %w", err))
		}
	}
	in, err := openInput(c.Input)
	if err != nil {
		return usage(err)
	}
	defer in.Close()
	return files.with(func(api *client.Client) error {
		f, err := upload(ctx, api, in, c.Name, expiry)
		if err != nil {
			return err
		}
		if c.JSON {
			return t.printRaw(f.JSON)
		}
		_, err = fmt.Fprintln(t.out, f.ID)
		return err
	})
}

// upload sends an input under a name; empty: its own.
func upload(ctx context.Context, api *client.Client, in *input, name string, expiry time.Duration) (client.File, error) {
	f := client.NewFile{Name: cmp.Or(name, in.name), Content: contextReader{ctx, in}, Size: -1, ExpiresAfter: expiry}
	if in.file != nil {
		info, err := in.file.Stat()
		if err != nil {
			return client.File{}, fmt.Errorf("reading %s: %w", in.name, err)
		}
		f.Size = info.Size()
	}
	return api.Upload(ctx, f)
}

type filesContentCmd struct {
	ID     string `arg:"" placeholder:"FILE_ID"`
	Output string `short:"o" placeholder:"FILE" help:"Where to write it; it appears when it is whole. Default: standard output."`
	Offset int64  `placeholder:"N" help:"Lines to leave out at the beginning."`
}

func (c *filesContentCmd) Run(ctx context.Context, t *terminal, files *filesCmd) error {
	if err := checkFileID(c.ID); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		if c.Output == "" {
			at, err := api.Content(ctx, c.ID, c.Offset, t.out)
			c.say(t, at, err)
			return err
		}
		if err := checkTarget("--output", c.Output); err != nil {
			return usage(err)
		}
		out, err := create(c.Output)
		if err != nil {
			return err
		}
		defer out.abandon()
		at, err := api.Content(ctx, c.ID, c.Offset, out)
		if err != nil {
			return err
		}
		c.say(t, at, nil)
		return out.keep()
	})
}

func (c *filesContentCmd) say(t *terminal, at client.Lines, err error) {
	if err == nil && at.Incomplete {
		t.say("the file may get more lines: go on with --offset %d", at.Next)
	}
}

type filesDeleteCmd struct {
	ID string `arg:"" placeholder:"FILE_ID"`
}

func (c *filesDeleteCmd) Run(ctx context.Context, t *terminal, files *filesCmd) error {
	if err := checkFileID(c.ID); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		if err := api.DeleteFile(ctx, c.ID); err != nil {
			return err
		}
		t.say("deleted %s", c.ID)
		return nil
	})
}
