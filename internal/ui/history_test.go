package ui_test

import "testing"

// The last hour is plotted as soon as a process has begun, and alike by all: it is the
// leader's.
func TestHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.Key("alice", false)
	w.exec(`INSERT INTO samples SELECT owner, date_trunc('minute', now()) - m * interval '1 min', 120 * n, 60 * n, 6000, 1200
	          FROM generate_series(2, 50) m, (VALUES ('', 2), ('alice', 1)) o (owner, n)`)
	for range 2 {
		w.url = w.serve()
		alice, root := w.signedIn(key), w.signedIn(w.Key("root", true))
		alice.get("/ui/").has(t, ",2,2,2,2,", ",1,1,1,1,", ",100,100,", ",20,20,", "0,0,0,0")
		root.get("/ui/").has(t, ",4,4,4,4,", ",2,2,2,2,")
		w.signedIn(w.Key("bob", false)).get("/ui/").has(t, "[0,0,0,0,")
	}
}
