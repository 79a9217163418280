package localrun

import (
	"bytes"
	"strings"
	"testing"

	"fusillade/internal/cli"
	"fusillade/internal/config"
)

// The URL that is printed can be used as it is, whichever address is listened on.
func TestBanner(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "listening on http://127.0.0.1:8080\n", "0.0.0.0:8080": "listening on http://127.0.0.1:8080\n",
		"[::]:8080": "listening on http://127.0.0.1:8080\n", "[::1]:8080": "listening on http://[::1]:8080\n",
	} {
		var out, notes bytes.Buffer
		if err := printBanner(&cli.Terminal{Out: &out, Err: &notes}, Config{Settings: new(config.Standalone)}, addr, false); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: %q, want %q", addr, out.String(), want)
		}
		if strings.Contains(notes.String(), "[::]") || strings.Contains(notes.String(), "every other address") != (addr == "0.0.0.0:8080" || addr == "[::]:8080") {
			t.Errorf("%s: %s", addr, notes.String())
		}
	}
}
