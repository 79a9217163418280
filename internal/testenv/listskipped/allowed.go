package main

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// allowed are patterns of a package and a test.
type allowed []name

func readAllowed(file string) (allowed, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the tests that may be skipped: %w", err)
	}
	var may allowed
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s:%d: want a package, a test and the reason", file, number)
		}
		n := name{fields[0], fields[1]}
		for _, pattern := range []string{n.pkg, n.test} {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("%s:%d: %q is no pattern: %w", file, number, pattern, err)
			}
		}
		may = append(may, n)
	}
	return may, nil
}

// has reports whether a test, or the one that it is a part of, may be skipped.
func (a allowed) has(n name) bool {
	for _, of := range a {
		if ok, _ := path.Match(of.pkg, n.pkg); !ok { // the pattern is good
			continue
		}
		for test := n.test; ; {
			if ok, _ := path.Match(of.test, test); ok {
				return true
			}
			parent := strings.LastIndexByte(test, '/')
			if parent < 0 {
				break
			}
			test = test[:parent]
		}
	}
	return false
}
