package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindUnknown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		environ []string
		want    []Problem
	}{
		{"ours and others'", []string{"FUSILLADE_TIMEOUT_MS=1", "PATH=/bin", "FUSILLADES=1", "FUSILLADE_DATABASE_URL_FILE=/x"}, nil},
		{"of the command line", []string{"FUSILLADE_SERVER=http://x", "FUSILLADE_API_KEY=k", "FUSILLADE_API_KEY_FILE=/x"}, nil},
		{"of our tests", []string{"FUSILLADE_TEST_DATABASE_URL=x"}, nil},
		{"misspelt", []string{"FUSILLADE_TIMEOUT=1"}, []Problem{{"FUSILLADE_TIMEOUT", "is not a setting: did you mean FUSILLADE_TIMEOUT_MS?"}}},
		{"far from all", []string{"FUSILLADE_COLOUR=red"}, []Problem{{"FUSILLADE_COLOUR", "is not a setting"}}},
		{"sorted", []string{"FUSILLADE_ZZZZZZZZ=", "FUSILLADE_AAAAAAAA="}, []Problem{{"FUSILLADE_AAAAAAAA", "is not a setting"}, {"FUSILLADE_ZZZZZZZZ", "is not a setting"}}},
		{"service links", []string{
			"FUSILLADE_SERVICE_HOST=10.0.0.1", "FUSILLADE_SERVICE_PORT=80", "FUSILLADE_PORT=tcp://10.0.0.1:80",
			"FUSILLADE_API_SERVICE_HOST=10.0.0.2", "FUSILLADE_API_SERVICE_PORT_HTTP=80", "FUSILLADE_API_PORT=tcp://10.0.0.2:80",
			"FUSILLADE_API_PORT_80_TCP=tcp://10.0.0.2:80", "FUSILLADE_API_PORT_80_TCP_ADDR=10.0.0.2",
			"FUSILLADE_API_PORT_80_TCP_PROTO=tcp", "FUSILLADE_API_PORT_80_TCP_PORT=80",
		}, nil},
		{"like a service link, but no service", []string{"FUSILLADE_UI_PORT=80"}, []Problem{{"FUSILLADE_UI_PORT", "is not a setting"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &problems{settings: settingsOf(new(Dispatcher))}
			p.findUnknown(tt.environ)
			if diff := cmp.Diff(tt.want, p.list); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// Compose files share one environment among all binaries.
func TestEveryBinaryKnowsAllSettings(t *testing.T) {
	t.Parallel()
	var environ []string
	all := map[string]bool{}
	for _, s := range settingsOf(new(Standalone)) {
		all[s.name] = true
		environ = append(environ, prefixed(s.name)+"=")
	}
	for _, dst := range []Settings{new(Dispatcher), new(Consumer)} {
		p := &problems{settings: settingsOf(dst)}
		p.findUnknown(environ)
		if p.err() != nil {
			t.Errorf("%T: %v", dst, p.err())
		}
		for _, s := range p.settings {
			if !all[s.name] {
				t.Errorf("%T reads %s, which Standalone lacks", dst, s.name)
			}
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
