package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/jsonl"
	"fusillade/internal/survey"
)

// maxBadLines are listed by check. Other commands list the first hundred.
const maxBadLines = 100_000

type checkCmd struct {
	File string `arg:"" placeholder:"FILE|-" help:"Requests, one JSON object per line; - reads standard input."`
	jsonFlag
}

// Run reads the file and calls nothing.
func (c *checkCmd) Run(ctx context.Context, t *cli.Terminal) error {
	cfg, err := loadSettings()
	if err != nil {
		return err
	}
	in, err := cli.OpenInput(c.File)
	if err != nil {
		return cli.Usage(err)
	}
	defer in.Close()
	return checkFile(ctx, t, cfg, in, c.JSON)
}

// checkFile prints what a file asks for, or all that is wrong in it.
func checkFile(ctx context.Context, t *cli.Terminal, cfg *config.Standalone, in *cli.Input, asJSON bool) error {
	file, err := survey.Read(ctx, in.Reader(ctx), jsonl.Config{
		AllowMixedEndpoints: true, Models: cfg.ModelsAllowed, Endpoints: cfg.EndpointsAllowed, MaxListed: maxBadLines,
	}, batch.Prices(cfg.ModelPrices))
	var invalid *jsonl.InvalidFileError
	switch {
	case errors.As(err, &invalid):
		return badLines(t, in.Name, invalid, asJSON)
	case err != nil:
		return cli.Usage(fmt.Errorf("reading %s: %w", in.Name, err))
	case asJSON:
		return t.PrintJSON(file)
	}
	return printSurvey(t, in.Name, file)
}

// badLines lists them as results: they are what was asked for.
func badLines(t *cli.Terminal, name string, invalid *jsonl.InvalidFileError, asJSON bool) error {
	type badLine struct {
		Line    int    `json:"line"` // 0: the file as a whole
		Field   string `json:"field,omitempty"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	for _, line := range invalid.Lines {
		var err error
		if asJSON {
			err = t.PrintJSONLine(badLine{line.Line, line.Field, line.Code, line.Message})
		} else {
			_, err = fmt.Fprintln(t.Out, line.Message)
		}
		if err != nil {
			return err
		}
	}
	text := fmt.Sprintf("%s would be refused: %d bad lines", name, invalid.Total)
	switch {
	case invalid.Total == 1 && len(invalid.Lines) == 1 && invalid.Lines[0].Line == 0: // it is of the whole file
		text = name + " would be refused"
	case invalid.Total == 1:
		text = name + " would be refused: 1 bad line"
	}
	if invalid.More() > 0 {
		text += fmt.Sprintf(", of which %d are listed", len(invalid.Lines))
	}
	return cli.Usage(errors.New(text))
}

func printSurvey(t *cli.Terminal, name string, f survey.File) error {
	where := "for several endpoints: fusillade run takes that, the API wants one endpoint a file"
	if f.Endpoint != "" {
		where = "all for " + f.Endpoint
	}
	fmt.Fprintf(t.Out, "%s: %s, %s, %s\n", cli.Plain(name), cli.Count(int64(f.Requests), "request"), cli.Size(f.Bytes), where)
	if err := cli.PrintList(t, cli.FormatTable, cli.All(f.Models), cli.RawLine, surveyColumns...); err != nil {
		return err
	}
	var notes []string
	total := f.Total()
	notes = append(notes, "Tokens are estimated: one for four bytes, and for answers the most that a request allows.")
	if total.Unbounded > 0 {
		notes = append(notes, fmt.Sprintf("Requests that allow answers of any length (no max_tokens): %d; each counts as 512 tokens.", total.Unbounded))
	}
	if f.Repeated > 0 {
		atLeast := ""
		if f.RepeatedAtLeast {
			atLeast = "at least "
		}
		notes = append(notes, fmt.Sprintf("Requests that repeat the body of an earlier one: %s%d; each is called.", atLeast, f.Repeated))
	}
	switch {
	case total.Unpriced == len(f.Models):
		notes = append(notes, "For costs, set FUSILLADE_MODEL_PRICES.")
	case total.Unpriced > 0:
		notes = append(notes, fmt.Sprintf("At most %s in all, without the models that have no price in FUSILLADE_MODEL_PRICES: %d.", total.Cost, total.Unpriced))
	default:
		notes = append(notes, fmt.Sprintf("At most %s in all.", total.Cost))
	}
	_, err := fmt.Fprintln(t.Out, strings.Join(notes, "\n"))
	return err
}

var surveyColumns = []cli.Column[batch.ModelSurvey]{
	{Name: "MODEL", Flexible: true, Cell: func(m batch.ModelSurvey) string { return string(m.Model) }},
	{Name: "REQUESTS", Cell: func(m batch.ModelSurvey) string { return strconv.Itoa(m.Requests) }},
	{Name: "PROMPT", Cell: func(m batch.ModelSurvey) string { return strconv.FormatInt(m.PromptTokens, 10) }},
	{Name: "COMPLETION", Cell: func(m batch.ModelSurvey) string { return strconv.FormatInt(m.CompletionTokens, 10) }},
	{Name: "LONGEST", Cell: func(m batch.ModelSurvey) string { return fmt.Sprintf("%d (line %d)", m.LongestPrompt, m.LongestLine) }},
	{Name: "COST", Cell: func(m batch.ModelSurvey) string {
		if m.Cost == nil {
			return "-"
		}
		return m.Cost.String()
	}},
}
