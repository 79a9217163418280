package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// name is that of a test; with test empty, of what a package says beside its tests.
type name struct{ pkg, test string }

// skip is a test that was skipped.
type skip struct {
	name
	reason string
}

// printer prints as go test does: of what passes, its last line.
type printer struct {
	out     io.Writer
	tests   map[name][]byte // what was said, of tests and packages that go on
	skipped []skip
}

func (p *printer) read(events io.Reader) error {
	in := bufio.NewReader(events)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			p.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading what the tests say: %w", err)
		}
	}
}

func (p *printer) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		_, _ = p.out.Write(line)
		return
	}
	n := name{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(p.out, e.Output)
	case "output":
		p.tests[n] = append(p.tests[n], e.Output...)
	case "pass", "skip", "fail":
		p.end(n, e.Action)
	}
}

func (p *printer) end(n name, how string) {
	said := p.tests[n]
	delete(p.tests, n)
	switch {
	case n.test != "" && how == "skip":
		p.skipped = append(p.skipped, skip{n, reasonOf(said)})
	case how == "fail":
		if n.test == "" { // it may have died within tests
			for _, m := range p.unfinished(n.pkg) {
				_, _ = p.out.Write(p.tests[m])
				delete(p.tests, m)
			}
		}
		_, _ = p.out.Write(said)
	case n.test == "":
		for line := range bytes.Lines(said) {
			if bytes.HasPrefix(line, []byte("ok  \t")) || bytes.HasPrefix(line, []byte("?   \t")) {
				_, _ = p.out.Write(line)
			}
		}
	}
}

func (p *printer) unfinished(pkg string) (names []name) {
	for n := range p.tests {
		if n.pkg == pkg {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b name) int { return strings.Compare(a.test, b.test) })
	return names
}

// reasonOf is what a skipped test said last, without the place in its file.
func reasonOf(said []byte) string {
	var reason string
	for line := range strings.Lines(string(said)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if at, text, found := strings.Cut(line, ": "); found && strings.Contains(at, ".go:") {
			line = text
		}
		reason = line
	}
	return reason
}

// listSkipped prints the tests that were skipped, those together that have a reason
// in common, and returns how many of them may not be.
func (p *printer) listSkipped(may allowed) (others int) {
	type group struct {
		pkg, reason string
		ok          bool
	}
	tests := make(map[group][]string)
	for _, s := range p.skipped {
		g := group{s.pkg, s.reason, may.has(s.name)}
		if !g.ok {
			others++
		}
		tests[g] = append(tests[g], s.test)
	}
	groups := make([]group, 0, len(tests))
	for g := range tests {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b group) int { return strings.Compare(a.pkg+" "+a.reason, b.pkg+" "+b.reason) })
	for _, g := range groups {
		what := "skipped"
		if !g.ok {
			what = "SKIPPED"
		}
		slices.Sort(tests[g])
		fmt.Fprintf(p.out, "%s\t%s\t%s: %s\n", what, g.pkg, g.reason, shorten(tests[g]))
	}
	return others
}

func shorten(tests []string) string {
	const most = 4
	if len(tests) <= most {
		return strings.Join(tests, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(tests[:most-1], ", "), len(tests)-most+1)
}
