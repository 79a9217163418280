// Package config holds every setting: its name, default, unit, range and
// description, each declared once, as a field of a section. A binary's
// settings are a struct that embeds the sections it uses.
//
// Load reads them from environment variables named FUSILLADE_…, or as OpenTelemetry
// names its own, and reports
// everything that is wrong with them in one error. It is the one place under
// internal/ that reads the environment: envconfig, which does the reading,
// takes it from the process and from nowhere else.
//
// The struct tags of a field are
//
//	envconfig  the whole name of the variable, which is what to search for;
//	           without the prefix envconfig would read other programs' variables
//	default    what an unset variable amounts to
//	derived    for people: what an unset variable amounts to when that is no
//	           constant; the zero value then means unset
//	alias      another name that is read too; the variable itself wins
//	signal     of OpenTelemetry's, the name for spans alone, which wins
//	was        the former name, which is read for one release more
//	min, max   range of a number, in its unit
//	unit       what a number counts
//	allowed    for people: what a value may be when that is no number
//	desc       one sentence without a full stop
//
// A variable that is set to the empty string has the empty value, which a
// number refuses.
//
// A new setting is a field of a section here, its use where the role is put
// together (internal/app), and a field of the package that acts on it;
// make readme writes it into docs/configuration.md.
package config
