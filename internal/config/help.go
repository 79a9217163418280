package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// The lines between which ReplaceMarkdown puts the table of settings.
const (
	MarkdownBegin = "<!-- settings: begin -->"
	MarkdownEnd   = "<!-- settings: end -->"
)

// WriteHelp writes an aligned table of the settings: variable, default, unit
// and description.
func WriteHelp(w io.Writer, dst Settings) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VARIABLE\tDEFAULT\tUNIT\tDESCRIPTION")
	for _, s := range settingsOf(dst) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", prefixed(s.name),
			cmp.Or(s.shownDefault(dst), "-"), cmp.Or(s.tag.Get("unit"), "-"), s.description())
	}
	return table.Flush()
}

// WriteMarkdown writes the same table in Markdown.
func WriteMarkdown(w io.Writer, dst Settings) error {
	var text strings.Builder
	text.WriteString("| variable | default | unit | meaning |\n|---|---|---|---|\n")
	for _, s := range settingsOf(dst) {
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", prefixed(s.name),
			escapeCell(s.shownDefault(dst)), s.tag.Get("unit"), escapeCell(s.description()))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// ReplaceMarkdown returns the document with the table of the settings between
// the lines MarkdownBegin and MarkdownEnd. A document that is up to date comes
// back as it is.
func ReplaceMarkdown(document string, dst Settings) (string, error) {
	before, rest, begun := strings.Cut(document, MarkdownBegin+"\n")
	_, after, ended := strings.Cut(rest, MarkdownEnd)
	if !begun || !ended {
		return "", errors.New("the document lacks the lines " + MarkdownBegin + " and " + MarkdownEnd)
	}
	var table strings.Builder
	if err := WriteMarkdown(&table, dst); err != nil {
		return "", err
	}
	return before + MarkdownBegin + "\n" + table.String() + MarkdownEnd + after, nil
}

// Snapshot returns the value of every setting by its variable, secrets
// redacted: what a daemon's record says about it.
func Snapshot(dst Settings) map[string]string {
	values := map[string]string{}
	for _, s := range settingsOf(dst) {
		values[prefixed(s.name)] = s.text()
	}
	return values
}

func (s setting) shownDefault(dst Settings) string {
	if slices.Contains(dst.required(), s.name) {
		return "required"
	}
	return cmp.Or(s.tag.Get("default"), s.tag.Get("derived"))
}

func (s setting) description() string {
	text := s.tag.Get("desc")
	if alias := s.tag.Get("alias"); alias != "" {
		text += " (or " + alias + ")"
	}
	if signal := s.tag.Get("signal"); signal != "" {
		text += " (for spans alone: " + signal + ")"
	}
	if former := s.tag.Get("was"); former != "" {
		text += " (formerly " + former + ", which still works)"
	}
	if s.secret() {
		text += " (or a file with it: " + prefixed(s.name) + fileSuffix + ")"
	}
	return text
}

func escapeCell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
