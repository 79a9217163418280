package bench

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// mockProcess is `fusillade mock` as a child.
type mockProcess struct {
	cmd   *exec.Cmd
	url   string
	roots *x509.CertPool // of https; nil: it is http
}

func runMock(ctx context.Context, program string, args ...string) (*mockProcess, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"mock"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the mock endpoint: %w", err)
	}
	m := &mockProcess{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("starting the mock endpoint: it said %q", line), m.stop())
	}
	m.url = url
	return m, nil
}

func (m *mockProcess) stop() error {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	err := m.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // it was told to end
	}
	return err
}
