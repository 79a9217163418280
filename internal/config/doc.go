// Package config holds every setting: its name, default, unit, range and
// description, each declared once, as a field of a section. A binary's
// settings are a struct that embeds the sections it uses.
//
// Load reads them from environment variables named FUSILLADE_…, and reports
// everything that is wrong with them in one error. It is the one place under
// internal/ that reads the environment: envconfig, which does the reading,
// takes it from the process and from nowhere else.
//
// The struct tags of a field are
//
//	env      name of the variable without the prefix; required
//	default  what an unset variable amounts to
//	derived  for people: what an unset variable amounts to when that is no
//	         constant; the zero value then means unset
//	alias    "true": the name without the prefix is read too; the one with it wins
//	min, max range of a number, in its unit
//	unit     what a number counts
//	allowed  for people: what a value may be when that is no number
//	desc     one sentence without a full stop
//
// The tag env is ours, not envconfig's, which would read the name without the
// prefix too.
//
// A variable that is set to the empty string has the empty value, which a
// number refuses.
package config
