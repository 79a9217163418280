package streams_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// legalToken is what a subject token, a KV key without levels and a consumer's
// name all allow.
var legalToken = regexp.MustCompile(`^[-_=a-zA-Z0-9]+$`)

func TestToken(t *testing.T) {
	t.Parallel()
	for model, want := range map[batch.Model]string{
		"gpt-4":                       "gpt-4",
		"Snake_case-2":                "Snake_case-2",
		"meta-llama/Llama-3.1:8b":     "meta-llama=2FLlama-3=2E1=3A8b",
		"*":                           "=2A",
		">":                           "=3E",
		"a b":                         "a=20b",
		"=41":                         "=3D41",
		"\u00e9":                      "=C3=A9",
		"\xff":                        "=FF",
		"ends with an escape.":        "ends=20with=20an=20escape=2E",
		batch.Model(`"quoted\name" `): "=22quoted=5Cname=22=20",
	} {
		if got := streams.Token(model); got != want {
			t.Errorf("Token(%q) = %q, want %q", model, got, want)
		}
		if got, err := streams.ParseToken(want); err != nil || got != model {
			t.Errorf("ParseToken(%q) = %q, %v", want, got, err)
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"nothing":           "",
		"a dot":             "a.b",
		"a wildcard":        "*",
		"a blank":           "a b",
		"a bare escape":     "a=",
		"half an escape":    "a=2",
		"lower case":        "a=2f",
		"no digits":         "a=ZZ",
		"a needless escape": "=41",
		"unicode":           "\u00e9",
	} {
		if got, err := streams.ParseToken(token); !errors.Is(err, streams.ErrToken) {
			t.Errorf("%s: ParseToken(%q) = %q, %v, want ErrToken", name, token, got, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, model := range []string{
		"gpt-4", "meta-llama/Llama-3.1:8b instruct", "*", ">", "a.b", "=", "=41", "==", " ", "\t\r\n", "\u00e9\U0001f680",
		"\xff\xfe", "\x00", strings.Repeat("/", 256), "REQUESTS", "$KV",
	} {
		f.Add(model)
	}
	f.Fuzz(func(t *testing.T, model string) {
		token := streams.Token(batch.Model(model))
		if model == "" {
			if _, err := streams.ParseToken(token); !errors.Is(err, streams.ErrToken) {
				t.Errorf("the token of no model = %v, want ErrToken", err)
			}
			return
		}
		if !legalToken.MatchString(token) {
			t.Errorf("Token(%q) = %q is not legal", model, token)
		}
		if got, err := streams.ParseToken(token); err != nil || string(got) != model {
			t.Errorf("ParseToken(%q) = %q, %v, want %q", token, got, err, model)
		}
		name := streams.ConsumerName(batch.Model(model))
		if len(name) > 200 || !legalToken.MatchString(name) {
			t.Errorf("ConsumerName(%q) = %q has %d bytes or is not legal", model, name, len(name))
		}
		// What is not refused was written by Token.
		if got, err := streams.ParseToken(model); err == nil && streams.Token(got) != model {
			t.Errorf("ParseToken takes %q, which Token(%q) does not write", model, got)
		}
	})
}

func TestConsumerName(t *testing.T) {
	t.Parallel()
	long := batch.Model(strings.Repeat("x", 201))
	if got := streams.ConsumerName(long[:200]); got != string(long[:200]) {
		t.Errorf("ConsumerName shortens what is short enough: %q", got)
	}
	names := make(map[string]batch.Model)
	for _, model := range []batch.Model{
		long, long + "x", long[:200] + "y", "y" + long,
		batch.Model(strings.Repeat("/", 66)), batch.Model(strings.Repeat("/", 67)), batch.Model(strings.Repeat("/", 68)),
		// Named like what a long name is shortened to.
		batch.Model(streams.ConsumerName(long)),
	} {
		name := streams.ConsumerName(model)
		if len(name) > 200 || !legalToken.MatchString(name) {
			t.Errorf("ConsumerName(%q) = %q has %d bytes or is not legal", model, name, len(name))
		}
		if other, taken := names[name]; taken {
			t.Errorf("%q and %q share the consumer %q", model, other, name)
		}
		names[name] = model
	}
}

func TestConsumerNamesDiffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Names that are alike where a cut may fall.
		prefix := strings.Repeat(rapid.SampledFrom([]string{"x", "/", "\u00e9"}).Draw(t, "filler"), rapid.IntRange(0, 220).Draw(t, "length"))
		tail := rapid.StringN(0, 3, -1)
		a, b := batch.Model(prefix+tail.Draw(t, "a")), batch.Model(prefix+tail.Draw(t, "b"))
		if a != b && streams.ConsumerName(a) == streams.ConsumerName(b) {
			t.Fatalf("%q and %q share a consumer", a, b)
		}
	})
}
