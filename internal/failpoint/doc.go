// Package failpoint names the instants at which a crash finds two systems
// apart, and lets a test stop a process exactly there.
//
// It does nothing, and costs nothing, unless the program is built with the tag
// failpoint. Then the environment variable FAILPOINT says where, at which hit
// from 1 on, and what:
//
//	FAILPOINT=started:17:kill          SIGKILL to itself at the 17th hit
//	FAILPOINT=calling:5:kill:20ms      the same, 20 ms after the hit
//	FAILPOINT=finished:3:stop          SIGSTOP to itself, until somebody sends SIGCONT
//	FAILPOINT=claimed:2:delay:800ms    that goroutine waits
//
// A line on standard error says so before it happens.
package failpoint
