package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
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
		return cli.Usage(err)
	}
	return nil
}

type filesLsCmd struct{ listFlags }

func (c *filesLsCmd) Run(ctx context.Context, t *cli.Terminal, files *filesCmd) error {
	if err := c.check(); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		return cli.PrintList(t, c.format(), api.Files(ctx, c.Limit), rawFile, fileColumns...)
	})
}

var fileColumns = []cli.Column[client.File]{
	{Name: "ID", Cell: func(f client.File) string { return f.ID }},
	{Name: "PURPOSE", Wide: true, Cell: func(f client.File) string { return f.Purpose }},
	{Name: "SIZE", Cell: sizeText},
	{Name: "BYTES", Wide: true, Cell: func(f client.File) string { return strconv.FormatInt(f.Bytes, 10) }},
	{Name: "AGE", Cell: func(f client.File) string { return cli.Age(f.CreatedAt) }},
	{Name: "CREATED", Wide: true, Cell: func(f client.File) string { return cli.Moment(f.CreatedAt) }},
	{Name: "EXPIRES", Wide: true, Cell: func(f client.File) string { return cmp.Or(cli.Moment(f.ExpiresAt), "-") }},
	{Name: "NAME", Flexible: true, Cell: func(f client.File) string { return f.Filename }},
}

// sizeText is - for the results of a batch, whose size is known once they are read.
func sizeText(f client.File) string {
	if f.Bytes == 0 {
		return "-"
	}
	return cli.Size(f.Bytes)
}

type filesGetCmd struct {
	ID string `arg:"" name:"file-id" placeholder:"FILE_ID" help:"Its id, as files ls lists it."`
	jsonFlag
}

func (c *filesGetCmd) Run(ctx context.Context, t *cli.Terminal, files *filesCmd) error {
	if err := checkFileID(c.ID); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		f, err := api.File(ctx, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return t.PrintRaw(f.JSON)
		}
		members := []cli.Member{
			{Name: "id", Value: f.ID}, {Name: "name", Value: f.Filename}, {Name: "purpose", Value: f.Purpose}, {Name: "status", Value: f.Status},
			{Name: "bytes", Value: fmt.Sprintf("%d (%s)", f.Bytes, cli.Size(f.Bytes))},
			{Name: "created", Value: cli.MomentAndAge(f.CreatedAt)}, {Name: "expires", Value: cli.MomentAndAge(f.ExpiresAt)},
		}
		return t.PrintMembers(append(members, surveyMembers(f.Survey)...)...)
	})
}

type filesUploadCmd struct {
	Input        string `arg:"" placeholder:"FILE|-" help:"Requests, one JSON object per line; - reads standard input."`
	Name         string `placeholder:"TEXT" help:"What to call it. Default: the file's own name."`
	ExpiresAfter string `placeholder:"TIME" help:"When the server may remove it, from 1h to 30d (default 30d)."`
	jsonFlag
}

func (c *filesUploadCmd) Run(ctx context.Context, t *cli.Terminal, files *filesCmd) error {
	expiry := time.Duration(0)
	if c.ExpiresAfter != "" {
		var err error
		if expiry, err = config.ParseWindow(c.ExpiresAfter); err != nil {
			return cli.Usage(fmt.Errorf("--expires-after: %w", err))
		}
	}
	in, err := cli.OpenInput(c.Input)
	if err != nil {
		return cli.Usage(err)
	}
	defer in.Close()
	return files.with(func(api *client.Client) error {
		f, err := upload(ctx, api, in, c.Name, expiry)
		if err != nil {
			return err
		}
		if c.JSON {
			return t.PrintRaw(f.JSON)
		}
		noteSurvey(t, f)
		_, err = fmt.Fprintln(t.Out, f.ID)
		return err
	})
}

// noteSurvey says what an uploaded file asks for.
func noteSurvey(t *cli.Terminal, f client.File) {
	if f.Survey != nil {
		t.Notef("%s: %s", cli.Plain(f.Filename), f.Survey)
	}
}

// maxModelMembers bounds how many models files get shows; --json has all.
const maxModelMembers = 20

// surveyMembers are what a file asks for, in all and of each model.
func surveyMembers(s *client.Survey) []cli.Member {
	if s == nil {
		return nil
	}
	members := []cli.Member{{Name: "asks for", Value: s.String()}}
	for i, m := range s.Models {
		if i == maxModelMembers {
			return append(members, cli.Member{Name: "models", Value: fmt.Sprintf("%d more; --json has all", len(s.Models)-i)})
		}
		text := fmt.Sprintf("%s: requests %d, prompt tokens %d, completion tokens at most %d, longest prompt %d (line %d)",
			m.Model, m.Requests, m.PromptTokens, m.CompletionTokens, m.LongestPrompt, m.LongestLine)
		if m.Cost != "" {
			text += ", cost at most " + m.Cost
		}
		members = append(members, cli.Member{Name: "model", Value: text})
	}
	return members
}

// upload sends an input under a name; empty: its own.
func upload(ctx context.Context, api *client.Client, in *cli.Input, name string, expiry time.Duration) (client.File, error) {
	return api.Upload(ctx, client.NewFile{Name: cmp.Or(name, in.Name), Content: in.Reader(ctx), Size: in.Size(), ExpiresAfter: expiry})
}

type filesContentCmd struct {
	ID     string `arg:"" name:"file-id" placeholder:"FILE_ID" help:"Its id, as files ls lists it."`
	Output string `short:"o" placeholder:"FILE|-" help:"Where to write it; it appears when it is whole. - and the default are standard output."`
	Offset int64  `placeholder:"N" help:"Lines to leave out at the beginning."`
}

func (c *filesContentCmd) Run(ctx context.Context, t *cli.Terminal, files *filesCmd) error {
	if err := checkFileID(c.ID); err != nil {
		return err
	}
	output, err := cli.NewOutput(t, "--output", cmp.Or(c.Output, "-"))
	if err != nil {
		return cli.Usage(err)
	}
	return files.with(func(api *client.Client) error {
		if output.IsStdout() {
			at, err := api.Content(ctx, c.ID, c.Offset, t.Out)
			c.note(t, at, err)
			return err
		}
		out, err := output.Create()
		if err != nil {
			return err
		}
		defer out.Abandon()
		at, err := api.Content(ctx, c.ID, c.Offset, out)
		if err != nil {
			return err
		}
		c.note(t, at, nil)
		return out.Keep()
	})
}

func (c *filesContentCmd) note(t *cli.Terminal, at client.Lines, err error) {
	if err == nil && at.Incomplete {
		t.Notef("the file may get more lines: go on with --offset %d", at.Next)
	}
}

type filesDeleteCmd struct {
	ID string `arg:"" name:"file-id" placeholder:"FILE_ID" help:"Its id, as files ls lists it."`
}

func (c *filesDeleteCmd) Run(ctx context.Context, t *cli.Terminal, files *filesCmd) error {
	if err := checkFileID(c.ID); err != nil {
		return err
	}
	return files.with(func(api *client.Client) error {
		if err := api.DeleteFile(ctx, c.ID); err != nil {
			return err
		}
		t.Notef("deleted %s", c.ID)
		return nil
	})
}
