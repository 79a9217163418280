package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

const prefix = "FUSILLADE"

// prefixed is the variable of a setting's name.
func prefixed(name string) string {
	if strings.HasPrefix(name, otelPrefix) {
		return name
	}
	return prefix + "_" + name
}

// Load reads the settings from the process's environment into dst, and checks
// them. The error, of type *Error, names everything that is wrong: bad values,
// values that don't fit together, missing ones, and variables with our prefix
// that we don't know. Variables of our other programs are known. dst holds
// nothing of use when there is an error.
func Load(dst Settings) error {
	p := &problems{settings: settingsOf(dst)}
	for _, s := range p.settings {
		p.try(s)
	}
	if len(p.list) == 0 {
		if err := process(dst, p.settings); err != nil {
			return err
		}
	}
	p.finish(dst)
	p.findUnknown(os.Environ())
	return p.err()
}

// Validate checks settings that were changed after Load, such as by flags, as
// Load does: ranges, and what must fit together.
func Validate(dst Settings) error {
	p := &problems{settings: settingsOf(dst)}
	for _, s := range p.settings {
		if s.tag.Get("derived") == "" || !s.value.IsZero() {
			p.checkRange(s)
		}
	}
	p.finish(dst)
	return p.err()
}

func (p *problems) finish(dst Settings) {
	for _, name := range dst.required() {
		p.require(name)
	}
	dst.check(p)
}

// try reads one setting and notes what is wrong with it. envconfig stops at
// the first bad value and shows it in its error, secret or not, so it is given
// only what was found good here. What try sets serves the checks of settings
// that must fit together where another one is bad.
func (p *problems) try(s setting) {
	text, variable, err := s.lookup()
	if err != nil {
		p.add(s.name, err.Error())
		return
	}
	if variable == "" {
		if text = s.tag.Get("default"); text == "" {
			return
		}
	}
	if err := s.set(text); err != nil {
		p.refuse(s, err)
	} else if variable != "" {
		p.checkRange(s)
	}
}

// process lets envconfig read the settings, and sets those whose value is not
// in their variable but in a file, or under another name.
func process(dst Settings, settings []setting) error {
	if err := envconfig.Process("", dst); err != nil {
		var parse *envconfig.ParseError // its text holds the value, secret or not
		if errors.As(err, &parse) {
			return fmt.Errorf("%s %w", parse.KeyName, parse.Err)
		}
		return err
	}
	for _, s := range settings {
		text, variable, err := s.lookup()
		if err != nil {
			return fmt.Errorf("%s %w", prefixed(s.name), err)
		}
		if variable == "" || variable == prefixed(s.name) {
			continue
		}
		if err := s.set(text); err != nil {
			return fmt.Errorf("%s %w", variable, err)
		}
	}
	return nil
}

// set reads a value as envconfig does, but for numbers: envconfig would take
// 0100 for sixty-four.
func (s setting) set(text string) error {
	switch value := s.value.Addr().Interface().(type) {
	case envconfig.Setter:
		return value.Set(text)
	case *int:
		n, err := parseInteger(text)
		*value = int(n)
		return err
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("is %s, which is neither true nor false", quote(text))
		}
		*value = b
		return nil
	}
	panic("config: " + s.name + " has the type " + s.value.Type().String() + ", which cannot be read")
}

// lookup returns the text of a setting and the variable that it comes from;
// none if it is not set. In order: the variable itself, the file that its
// twin names, the name without the prefix, and the setting's former name; before
// all of them, of OpenTelemetry's, the name that is for spans alone.
func (s setting) lookup() (text, variable string, err error) {
	if signal := s.tag.Get("signal"); signal != "" && os.Getenv(signal) != "" {
		return os.Getenv(signal), signal, nil
	}
	variable = prefixed(s.name)
	text, set := os.LookupEnv(variable)
	file, former, alias := variable+fileSuffix, s.tag.Get("was"), s.tag.Get("alias")
	if !s.secret() || os.Getenv(file) == "" {
		file = ""
	}
	if os.Getenv(former) == "" {
		former = ""
	}
	switch {
	case text != "" && file+former != "":
		return "", "", fmt.Errorf("and %s are both set: use one", file+former)
	case file != "":
		text, err = readSecret(file)
		return text, file, err
	case former != "":
		return os.Getenv(former), former, nil
	case set:
		return text, variable, nil
	case alias != "":
		if text, set = os.LookupEnv(alias); set {
			return text, alias, nil
		}
	}
	return "", "", nil
}

const maxSecretFileBytes = 64 << 10

// readSecret returns the content of the file that the variable names, less one
// line end.
func readSecret(variable string) (string, error) {
	path := os.Getenv(variable)
	text, err := readBounded(path, maxSecretFileBytes)
	if err != nil {
		return "", fmt.Errorf("cannot be read from the file that %s names: %w", variable, err)
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("cannot be read from the file that %s names: %s is empty", variable, path)
	}
	return text, nil
}

// settingsOf lists the settings of a role in the order of declaration.
func settingsOf(dst Settings) []setting {
	return appendSettings(nil, reflect.ValueOf(dst).Elem())
}

func appendSettings(list []setting, section reflect.Value) []setting {
	for i := range section.NumField() {
		field := section.Type().Field(i)
		if variable, ok := field.Tag.Lookup("envconfig"); ok {
			name := strings.TrimPrefix(variable, prefix+"_")
			list = append(list, setting{name: name, tag: field.Tag, value: section.Field(i)})
		} else if field.Anonymous && field.Type.Kind() == reflect.Struct {
			list = appendSettings(list, section.Field(i))
		}
	}
	return list
}
