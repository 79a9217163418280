package config

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain clears what the environment of the developer says about fusillade
// and NATS: here it is an input, and each test sets its own.
func TestMain(m *testing.M) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, prefix+"_") || strings.HasPrefix(name, "NATS_") || strings.HasPrefix(name, otelPrefix) {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

// setenv sets variables, given as NAME=value, until the test ends.
func setenv(t *testing.T, environ ...string) {
	t.Helper()
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := t.TempDir() + "/content"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func errorOf(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}
