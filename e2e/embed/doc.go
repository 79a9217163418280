// Package embed kills programs that embed Fusillade, at the instants that matter to
// what package fusillade promises them.
package embed
