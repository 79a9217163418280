package streams_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/streams"
)

const (
	hexID   = "0192f0c1a2b37c4d8e5f60718293a4b5"
	subject = "fusillade.requests.gpt-4=2E1." + hexID + ".17"
)

func requestID(t failer, line int32) batch.RequestID {
	t.Helper()
	id, err := batch.ParseID(hexID)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return batch.RequestID{Batch: id, Line: line}
}

// failer is what *testing.T, *testing.F and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func TestRequestSubject(t *testing.T) {
	t.Parallel()
	id := requestID(t, 17)
	if got := streams.Shard(0).RequestSubject("gpt-4.1", id); got != subject {
		t.Errorf("RequestSubject = %q, want %q", got, subject)
	}
	if got := streams.Shard(0).ModelSubjects("gpt-4.1"); got != "fusillade.requests.gpt-4=2E1.>" {
		t.Errorf("ModelSubjects = %q", got)
	}
	if got := streams.Shard(0).BatchSubjects(id.Batch); got != "fusillade.requests.*."+hexID+".*" {
		t.Errorf("BatchSubjects = %q", got)
	}
}

func TestRequestSubjectRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		model := batch.Model(rapid.StringN(1, 40, -1).Draw(t, "model"))
		id := requestID(t, rapid.Int32Range(1, math.MaxInt32).Draw(t, "line"))
		gotModel, gotID, err := streams.ParseRequestSubject(streams.Shard(0).RequestSubject(model, id))
		if err != nil || gotModel != model || gotID != id {
			t.Fatalf("ParseRequestSubject = %q, %v, %v, want %q, %v", gotModel, gotID, err, model, id)
		}
	})
}

func TestParseRequestSubjectRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"nothing":                  "",
		"another prefix":           strings.Replace(subject, "requests", "results", 1),
		"no line":                  "fusillade.requests.m." + hexID,
		"too many tokens":          subject + ".1",
		"no model":                 "fusillade.requests.." + hexID + ".1",
		"a malformed model":        "fusillade.requests.m=." + hexID + ".1",
		"a malformed batch":        "fusillade.requests.m.xyz.1",
		"a batch with its prefix":  "fusillade.requests.m.batch_" + hexID + ".1",
		"a batch in upper case":    "fusillade.requests.m." + strings.ToUpper(hexID) + ".1",
		"line zero":                "fusillade.requests.m." + hexID + ".0",
		"a negative line":          "fusillade.requests.m." + hexID + ".-1",
		"a signed line":            "fusillade.requests.m." + hexID + ".+1",
		"a line with leading zero": "fusillade.requests.m." + hexID + ".01",
		"a line out of range":      "fusillade.requests.m." + hexID + ".2147483648",
		"wildcards":                "fusillade.requests.m.*.*",
	} {
		if m, id, err := streams.ParseRequestSubject(s); !errors.Is(err, streams.ErrToken) {
			t.Errorf("%s: ParseRequestSubject(%q) = %q, %v, %v, want ErrToken", name, s, m, id, err)
		}
	}
}

func FuzzParseRequestSubject(f *testing.F) {
	f.Add(subject)
	for _, s := range []string{"", ".", "fusillade.requests.", "fusillade.requests.m." + hexID + ".+1", strings.ToUpper(subject)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, id, err := streams.ParseRequestSubject(s)
		if err != nil {
			if !errors.Is(err, streams.ErrToken) {
				t.Errorf("ParseRequestSubject(%q) = %v, want ErrToken", s, err)
			}
			return
		}
		if got := streams.Shard(0).RequestSubject(m, id); got != s {
			t.Errorf("ParseRequestSubject takes %q, which is written %q", s, got)
		}
	})
}

func TestHintDrained(t *testing.T) {
	t.Parallel()
	const model = batch.Model("meta-llama/Llama-3.1:8b instruct")
	hint := streams.HintDrained(model)
	if got, err := streams.ParseHintDrained(hint); err != nil || got != model {
		t.Errorf("ParseHintDrained(%q) = %q, %v", hint, got, err)
	}
	if prefix := strings.TrimSuffix(streams.HintDrainedAll, "*"); !strings.HasPrefix(hint, prefix) || strings.Contains(hint[len(prefix):], ".") {
		t.Errorf("%q is not matched by %q", hint, streams.HintDrainedAll)
	}
	for _, s := range []string{"", streams.HintWork, "fusillade.hints.drained.", "fusillade.hints.drained.a.b"} {
		if got, err := streams.ParseHintDrained(s); !errors.Is(err, streams.ErrToken) {
			t.Errorf("ParseHintDrained(%q) = %q, %v, want ErrToken", s, got, err)
		}
	}
}

// A cancel hint is heard by consumers of this release and of the one before,
// and consumers of this release hear those of both.
func TestHintCancel(t *testing.T) {
	t.Parallel()
	id := requestID(t, 1).Batch
	subject, old := "fusillade.hints.cancel."+hexID, "fusillade.hint.cancel."+hexID
	if got := streams.HintCancel(id); got != subject {
		t.Errorf("HintCancel = %q, want %q", got, subject)
	}
	if got := streams.HintCancelSubjects(id); !slices.Equal(got, []string{subject, old}) {
		t.Errorf("HintCancelSubjects = %q", got)
	}
	if got := streams.HintCancelPatterns(); !slices.Equal(got, []string{"fusillade.hints.cancel.*", "fusillade.hint.cancel.*"}) {
		t.Errorf("HintCancelPatterns = %q", got)
	}
	for _, s := range []string{subject, old} {
		if got, err := streams.ParseHintCancel(s); err != nil || got != id {
			t.Errorf("ParseHintCancel(%q) = %v, %v", s, got, err)
		}
	}
	for _, bad := range []string{
		"", "fusillade.hints.cancel.", "fusillade.hints.cancel.x", hexID, "fusillade.hints.cancel." + strings.ToUpper(hexID),
		"fusillade.hints.cancel.batch_" + hexID, subject + ".1", "fusillade.hints.drained." + hexID, "fusillade.hint.cancel." + hexID + ".1",
	} {
		if _, err := streams.ParseHintCancel(bad); !errors.Is(err, streams.ErrToken) {
			t.Errorf("ParseHintCancel(%q): %v, want ErrToken", bad, err)
		}
	}
}
