package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

const prefix = "FUSILLADE"

// prefixed is the variable of a name in an env tag.
func prefixed(name string) string { return prefix + "_" + name }

// Load reads the settings from the process's environment into dst, and checks
// them. The error, of type *Error, names everything that is wrong: bad values,
// values that don't fit together, missing ones, and variables with our prefix
// that we don't know. Variables of our other binaries are known. dst holds
// nothing of use when there is an error.
func Load(dst Settings) error {
	p := &problems{settings: settingsOf(dst)}
	for _, s := range p.settings {
		p.read(s)
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

// read sets the field from the environment, or from the file that the
// environment names.
func (p *problems) read(s setting) {
	text, found, err := s.readFile()
	if err != nil {
		p.add(s.name, err.Error())
		return
	}
	if found {
		err = s.value.Addr().Interface().(envconfig.Setter).Set(text)
	} else {
		err = s.process()
	}
	if err != nil {
		p.refuse(s, err)
	} else if _, set := s.lookup(); set {
		p.checkRange(s)
	}
}

// process lets envconfig set the field.
//
// envconfig stops at the first bad variable, so it is given a struct of this
// one field. There the field bears the variable's name: a name in envconfig's
// own tag would be read without the prefix too, and a stray LOG_LEVEL of some
// other program would be ours.
func (s setting) process() error {
	if s.value.Type() == reflect.TypeFor[int]() {
		// Base 0, which envconfig parses in, makes 0100 sixty-four.
		if text, set := s.lookup(); set {
			if _, err := parseInteger(text); err != nil {
				return err
			}
		}
	}
	tag := fmt.Sprintf("default:%q", s.tag.Get("default"))
	if s.alias() {
		tag += fmt.Sprintf(" envconfig:%q", s.name)
	}
	one := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: s.name, Type: s.value.Type(), Tag: reflect.StructTag(tag),
	}}))
	if err := envconfig.Process(prefix, one.Interface()); err != nil {
		var parse *envconfig.ParseError // its text holds the value, secret or not
		if errors.As(err, &parse) {
			return parse.Err
		}
		return err
	}
	s.value.Set(one.Elem().Field(0))
	return nil
}

const maxSecretFileBytes = 64 << 10

// readFile returns the content of the file that the variable's _FILE twin
// names, less one line end. found is false if it names none.
func (s setting) readFile() (text string, found bool, err error) {
	variable := prefixed(s.name) + fileSuffix
	path := os.Getenv(variable)
	if !s.secret() || path == "" {
		return "", false, nil
	}
	if os.Getenv(prefixed(s.name)) != "" {
		return "", false, fmt.Errorf("and %s are both set: use one", variable)
	}
	text, err = readBounded(path, maxSecretFileBytes)
	if err != nil {
		return "", false, fmt.Errorf("cannot be read from the file that %s names: %w", variable, err)
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return "", false, fmt.Errorf("cannot be read from the file that %s names: %s is empty", variable, path)
	}
	return text, true, nil
}
