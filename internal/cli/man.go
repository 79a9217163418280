package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// ManPages are the names of the manual pages of a program: its own, and one for
// each command, such as fusillade-batches-get.
func ManPages(app *kong.Application) map[string]*kong.Node {
	pages := map[string]*kong.Node{app.Name: app.Node}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, child := range n.Children {
			if !child.Hidden {
				pages[pageName(child)] = child
				walk(child)
			}
		}
	}
	walk(app.Node)
	return pages
}

func pageName(n *kong.Node) string {
	if n.Parent == nil {
		return n.Name
	}
	return pageName(n.Parent) + "-" + n.Name
}

// WriteManPage writes the manual page of a command in the man macros of troff,
// as man(7) describes them.
func WriteManPage(out io.Writer, n *kong.Node, version string) error {
	var b strings.Builder
	name := pageName(n)
	fmt.Fprintf(&b, ".TH %s 1 \"\" %s \"User Commands\"\n", roff(strings.ToUpper(name)), roff(`"`+version+`"`))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(strings.TrimSuffix(n.Help, ".")))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(strings.ReplaceAll(name, "-", " ")))
	if len(n.Children) > 0 {
		fmt.Fprint(&b, ".I command\n")
	}
	for _, p := range n.Positional {
		fmt.Fprintf(&b, "%s\n", roff(p.Summary()))
	}
	fmt.Fprint(&b, "[flags]\n")
	if n.Detail != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(n.Detail))
	}
	writeItems(&b, "COMMANDS", n.Children, func(c *kong.Node) (string, string, bool) { return c.Name, c.Help, c.Hidden })
	writeItems(&b, "ARGUMENTS", n.Positional, func(p *kong.Positional) (string, string, bool) { return p.Summary(), p.Help, p.Help == "" })
	var flags []*kong.Flag
	for _, group := range n.AllFlags(true) {
		flags = append(flags, group...)
	}
	writeItems(&b, "OPTIONS", flags, func(f *kong.Flag) (string, string, bool) {
		text := "--" + f.Name
		if f.Short != 0 {
			text = fmt.Sprintf("-%c, %s", f.Short, text)
		}
		if !f.IsBool() {
			text += "=" + f.FormatPlaceHolder()
		}
		return text, f.Help, f.Hidden
	})
	if n.Parent != nil {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(pageName(n.Parent)))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func writeItems[T any](b *strings.Builder, section string, items []T, item func(T) (name, help string, hidden bool)) {
	head := fmt.Sprintf(".SH %s\n", section)
	for _, one := range items {
		name, help, hidden := item(one)
		if !hidden {
			fmt.Fprintf(b, "%s.TP\n\\fB%s\\fR\n%s\n", head, roff(name), roff(help))
			head = ""
		}
	}
}

// roff escapes a text: a backslash, a hyphen that is meant as one, and what would
// be a request at the beginning of a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
