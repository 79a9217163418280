// Listskipped runs go test -json, prints what go test prints without it, and at
// the end every test that was skipped, and why:
//
//	listskipped [-refuse] [-allowed FILE] COMMAND [ARGUMENT...]
//
// FILE has a line for each test that may be skipped: its package and its name, as a
// pattern of package path, which a subtest matches as its test does; what follows
// them is the reason. With -refuse a skip of another test is a failure. Else it ends
// with the command's exit code.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// codeFailed is the exit code when it is not the command that failed.
const codeFailed = 125

func main() {
	refuse := flag.Bool("refuse", false, "fail where a test is skipped that is not in the list")
	list := flag.String("allowed", "", "`file` of the tests that may be skipped")
	flag.Parse()
	code, err := run(*refuse, *list, flag.Args(), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "listskipped:", err)
	}
	os.Exit(code)
}

func run(refuse bool, list string, command []string, out io.Writer) (code int, err error) {
	if len(command) == 0 {
		return codeFailed, errors.New("which command? usage: listskipped [-refuse] [-allowed FILE] go test -json ...")
	}
	var may allowed
	if list != "" {
		if may, err = readAllowed(list); err != nil {
			return codeFailed, err
		}
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return codeFailed, err
	}
	if err := cmd.Start(); err != nil {
		return codeFailed, fmt.Errorf("running %s: %w", command[0], err)
	}
	p := &printer{out: out, tests: make(map[name][]byte)}
	readErr := p.read(events)
	err = cmd.Wait()
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		code, err = max(exit.ExitCode(), 1), nil // -1: by a signal
	}
	if err := errors.Join(readErr, err); err != nil {
		return codeFailed, err
	}
	if others := p.listSkipped(may); others > 0 && refuse {
		fmt.Fprintf(out, "FAIL: %d skipped tests are not in %s\n", others, list)
		code = max(code, 1)
	}
	return code, nil
}
