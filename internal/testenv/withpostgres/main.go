// Withpostgres runs a command, such as go test ./..., with one Postgres for all
// the tests in it, which else start one for each package:
//
//	withpostgres COMMAND [ARGUMENT...]
//
// It ends with the command's exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"fusillade/internal/testenv"
)

// codeFailed is the exit code when it is not the command that failed.
const codeFailed = 125

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
	}
	os.Exit(code)
}

func run(command []string) (code int, err error) {
	if len(command) == 0 {
		return codeFailed, errors.New("which command? usage: withpostgres COMMAND [ARGUMENT...]")
	}
	// The command is in our process group and gets the terminal's signals too:
	// it ends by itself, and the server after it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, err := testenv.StartServer(ctx)
	if err != nil {
		return codeFailed, err
	}
	defer func() {
		if closeErr := server.Close(); closeErr != nil {
			code, err = max(code, 1), errors.Join(err, closeErr)
		}
	}()
	fmt.Fprintln(os.Stderr, "withpostgres:", server.Source())
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), server.Environment()...)
	err = cmd.Run()
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		return max(exit.ExitCode(), 1), nil // -1: by a signal
	}
	if err != nil {
		return codeFailed, fmt.Errorf("running %s: %w", command[0], err)
	}
	return 0, nil
}
