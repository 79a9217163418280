// Package fusilladetest is for the tests of programs that embed Fusillade: a
// Fusillade that works until the test ends, on servers of its own, with a model
// endpoint that the test writes.
//
//	f := fusilladetest.New(t, fusilladetest.Answers(func(c fusilladetest.Call) (int, string) {
//		return 200, "hello"
//	}))
//	id, err := f.Submit(…)
//
// Postgres and NATS are embedded, in a temporary directory: Postgres is the one that is
// installed, or downloaded once. That takes seconds for each New; a test that has a
// database for its program already names that, which takes none.
package fusilladetest
