// Package neighbours has owners who hurt others, by accident or on purpose, on a
// cluster of real processes: while one does, the small batch of another on the
// same model must finish within twice its time alone, plus a second. It compares
// time, so it has a build tag of its own:
//
//	make neighbours                  every neighbour; prints the table
//	make neighbours RUN=TestHuge     one of them
package neighbours
