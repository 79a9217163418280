package endpoint

import "errors"

// Stream says whether calls ask for a streamed answer that do not by themselves.
type Stream string

// What Stream may be. Empty: as is said elsewhere, else off.
const (
	StreamOn  Stream = "on"
	StreamOff Stream = "off"
)

// ParseStream reads on or off; empty: neither is said.
func ParseStream(text string) (Stream, error) {
	switch s := Stream(text); s {
	case "", StreamOn, StreamOff:
		return s, nil
	}
	return "", errors.New("is neither on nor off")
}

// Streams reports whether calls ask for a streamed answer.
func (o *Options) Streams() bool { return o != nil && o.Stream == StreamOn }

// WithStream returns the options with what they do not say themselves of streams.
func (o *Options) WithStream(s Stream) *Options {
	switch {
	case s == "" || o != nil && o.Stream != "":
		return o
	case o == nil:
		return &Options{Stream: s}
	}
	all := *o
	all.Stream = s
	return &all
}
