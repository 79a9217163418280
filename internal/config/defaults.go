package config

import "fmt"

// SetDefaults gives every setting its default, whatever the environment says, and
// fills in what is derived from others.
func SetDefaults(dst Settings) error {
	for _, s := range settingsOf(dst) {
		if text := s.tag.Get("default"); text != "" {
			if err := s.set(text); err != nil {
				return fmt.Errorf("%s %w", prefixed(s.name), err)
			}
		}
	}
	return Validate(dst)
}
