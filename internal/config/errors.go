package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	Variable string
	Text     string // what is wrong and what is allowed; holds no secret
}

// Error is everything that is wrong with the settings, in the order in which
// they are declared, unknown variables last.
type Error struct {
	Problems []Problem
}

// Error returns a line for each problem under a headline.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("the settings are not usable:")
	for _, problem := range e.Problems {
		fmt.Fprintf(&text, "\n  %s %s", problem.Variable, problem.Text)
	}
	return text.String()
}

// problems gathers what is wrong with the settings.
type problems struct {
	settings []setting
	list     []Problem
	bad      map[string]bool // by name without the prefix
}

// find returns the setting of the name, or one that has only the name.
func (p *problems) find(name string) (setting, bool) {
	i := slices.IndexFunc(p.settings, func(s setting) bool { return s.name == name })
	if i < 0 {
		return setting{name: name}, false
	}
	return p.settings[i], true
}

// add notes a problem of the variable with the name.
func (p *problems) add(name, text string) {
	if p.bad == nil {
		p.bad = map[string]bool{}
	}
	p.bad[name] = true
	s, _ := p.find(name)
	p.list = append(p.list, Problem{Variable: s.variable(), Text: text})
}

// refuse notes a bad value.
func (p *problems) refuse(s setting, err error) {
	p.add(s.name, err.Error()+p.allowed(s.name))
}

// allowed says what the variable with the name may hold.
func (p *problems) allowed(name string) string {
	if s, ok := p.find(name); ok {
		return " (allowed: " + s.allowed() + ")"
	}
	return ""
}

// require notes a variable that must be set and is not.
func (p *problems) require(name string) {
	if s, ok := p.find(name); ok && s.value.IsZero() && !p.bad[name] {
		p.add(name, "is required"+p.allowed(name))
	}
}

// relate notes that the variable with the name does not fit the one with the
// name other. Where one of them is bad already, nothing can be said.
func (p *problems) relate(wrong bool, name, other, format string, args ...any) {
	if wrong && !p.bad[name] && !p.bad[other] {
		p.add(name, fmt.Sprintf(format, args...))
	}
}

// checkRange notes a number that is out of its range.
func (p *problems) checkRange(s setting) {
	n, ok := s.number()
	if !ok {
		return
	}
	if low, high := s.limits(); n < low || n > high {
		p.refuse(s, fmt.Errorf("is %d, which is out of range", n))
	}
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return &Error{Problems: p.list}
}

// quote shows a value that is no secret, cut to a readable length.
func quote(value string) string {
	const most = 60
	if len(value) > most {
		return fmt.Sprintf("%.*q…", most, value)
	}
	return fmt.Sprintf("%q", value)
}
