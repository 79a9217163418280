package endpoint

import (
	"cmp"
	"errors"
)

// Switch says whether calls do something that they do not by themselves.
type Switch string

// What a Switch may be. Empty: as is said elsewhere, else off.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// ParseSwitch reads on or off; empty: neither is said.
func ParseSwitch(text string) (Switch, error) {
	switch s := Switch(text); s {
	case "", On, Off:
		return s, nil
	}
	return "", errors.New("is neither on nor off")
}

// Streams reports whether calls ask for a streamed answer.
func (o *Options) Streams() bool { return o != nil && o.Stream == On }

// SendsPriority reports whether calls tell the endpoint how urgent they are.
func (o *Options) SendsPriority() bool { return o != nil && o.SendPriority == On }

// WithSwitches returns the options with what they do not say themselves of
// streams and priorities.
func (o *Options) WithSwitches(stream, sendPriority Switch) *Options {
	var all Options
	if o != nil {
		all = *o
	}
	stream, sendPriority = cmp.Or(all.Stream, stream), cmp.Or(all.SendPriority, sendPriority)
	if stream == all.Stream && sendPriority == all.SendPriority {
		return o
	}
	all.Stream, all.SendPriority = stream, sendPriority
	return &all
}
