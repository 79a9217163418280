// Package mutations takes the fence of internal/postgres apart: it removes one
// condition of a statement at a time, and a test must fail each time. A test of
// the fence that notices nothing is worth nothing.
package mutations
