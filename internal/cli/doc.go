// Package cli is what the commands of cmd/fusillade have in common: the
// terminal and its tables, progress, files in and files out, exit codes, and
// the completion of command lines.
package cli
