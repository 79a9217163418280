package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// MetadataFields names batch columns and metadata keys. Each becomes the end
// of a header's name.
type MetadataFields []string

var headerPart = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// String returns the names, separated by commas.
func (f MetadataFields) String() string { return strings.Join(f, ",") }

// Set reads names separated by commas. The empty string is no name.
func (f *MetadataFields) Set(text string) error {
	*f = MetadataFields{}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	seen := map[string]string{}
	for i, name := range strings.Split(text, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			return fmt.Errorf("has an empty element, number %d", i+1)
		}
		if !headerPart.MatchString(name) {
			return fmt.Errorf("has the element %s, which cannot be part of a header's name", quote(name))
		}
		header := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		if first, ok := seen[header]; ok {
			return fmt.Errorf("has the elements %s and %s, which make the same header", quote(first), quote(name))
		}
		seen[header] = name
		*f = append(*f, name)
	}
	return nil
}

// Tags of servers.
type Tags []string

// String returns the tags, separated by commas.
func (f Tags) String() string { return strings.Join(f, ",") }

// Set reads tags separated by commas. The empty string is no tag.
func (f *Tags) Set(text string) error {
	*f = nil
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for i, tag := range strings.Split(text, ",") {
		if tag = strings.TrimSpace(tag); tag == "" {
			return fmt.Errorf("has an empty element, number %d", i+1)
		}
		if strings.ContainsFunc(tag, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			return fmt.Errorf("has the element %s, number %d, which has a blank in it", quote(tag), i+1)
		}
		*f = append(*f, tag)
	}
	return nil
}
