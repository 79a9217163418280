package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const traces = `File: fusillade
Type: cpu
-----------+-------------------------------------------------------
      20ms   runtime.memmove
             net/http.(*persistConn).writeLoop
-----------+-------------------------------------------------------
      10ms   syscall.Syscall
             github.com/jackc/pgx/v5/pgconn.(*PgConn).flush
             fusillade/internal/postgres.(*Store).Start
             fusillade/internal/consume.(*Consumer).writeStarts
-----------+-------------------------------------------------------
            state: waiting
     1.50s   runtime.findRunnable
             runtime.schedule
-----------+-------------------------------------------------------
      10ms   fusillade/internal/upstream.(*Client).classify
             fusillade/internal/consume.(*Consumer).call
`

// A sample is counted once, for the part that works and not for the one that called it.
func TestBudget(t *testing.T) {
	t.Parallel()
	got, err := budget(traces)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]time.Duration{
		"net/http: the call itself": 20 * time.Millisecond, "Postgres client": 10 * time.Millisecond, scheduling: 1500 * time.Millisecond,
		"call: headers, body, classification of the answer": 10 * time.Millisecond,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := budget("Type: inuse_space\n"); err == nil {
		t.Error("a profile without samples has a budget")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	got := table(map[string]time.Duration{"a": 10 * time.Millisecond, "b": 30 * time.Millisecond}, 1000)
	want := "| part | µs a request | |\n|---|---|---|\n| b | 30.0 | 75 % |\n| a | 10.0 | 25 % |\n| all | 40.0 | 100 % |\n"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
