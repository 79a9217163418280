// Package upgrade has programs of the release before and of this one work together
// on one database and one broker, as in a rolling upgrade, and this one go on in a
// data directory of that one. It builds the release before, so it has a build tag of
// its own:
//
//	make upgrade
package upgrade
