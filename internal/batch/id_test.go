package batch_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

const hexID = "0192f0c1a2b37c4d8e5f60718293a4b5"

func genID() *rapid.Generator[[16]byte] {
	return rapid.Custom(func(t *rapid.T) [16]byte {
		return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
	})
}

func TestIDsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := genID().Draw(t, "id")
		id := batch.ID(raw)
		if got, err := batch.ParseID(id.String()); err != nil || got != id {
			t.Errorf("ParseID(%q) = %v, %v", id.String(), got, err)
		}
		if got, err := batch.ParseID(id.Token()); err != nil || got != id {
			t.Errorf("ParseID(%q) = %v, %v", id.Token(), got, err)
		}
		file := batch.FileID(raw)
		if got, err := batch.ParseFileID(file.String()); err != nil || got != file {
			t.Errorf("ParseFileID(%q) = %v, %v", file.String(), got, err)
		}
		daemon := batch.DaemonID(raw)
		if got, err := batch.ParseDaemonID(daemon.String()); err != nil || got != daemon {
			t.Errorf("ParseDaemonID(%q) = %v, %v", daemon.String(), got, err)
		}
		request := batch.RequestID{Batch: id, Line: rapid.Int32Range(1, math.MaxInt32).Draw(t, "line")}
		if got, err := batch.ParseRequestID(request.String()); err != nil || got != request {
			t.Errorf("ParseRequestID(%q) = %v, %v", request.String(), got, err)
		}
	})
}

func TestIDsAsText(t *testing.T) {
	t.Parallel()
	id, err := batch.ParseID(hexID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal([]any{id, batch.FileID(id), batch.DaemonID(id), batch.RequestID{Batch: id, Line: 17}})
	if err != nil {
		t.Fatal(err)
	}
	want := `["batch_` + hexID + `","file-` + hexID + `","` + hexID + `","batch_req_` + hexID + `00000011"]`
	if string(got) != want {
		t.Errorf("ids in JSON are %s, want %s", got, want)
	}
}

// Ids sort as their strings do, by time.
func TestIDsSort(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genID().Draw(t, "a"), genID().Draw(t, "b")
		if strings.Compare(string(a[:]), string(b[:])) != strings.Compare(batch.ID(a).String(), batch.ID(b).String()) {
			t.Errorf("%x and %x sort otherwise than their strings", a, b)
		}
	})
}

func TestParseIDsRefuse(t *testing.T) {
	t.Parallel()
	parsers := map[string]func(string) error{
		"batch":   func(s string) error { _, err := batch.ParseID(s); return err },
		"file":    func(s string) error { _, err := batch.ParseFileID(s); return err },
		"daemon":  func(s string) error { _, err := batch.ParseDaemonID(s); return err },
		"request": func(s string) error { _, err := batch.ParseRequestID(s); return err },
	}
	valid := map[string][]string{
		"batch":   {hexID, "batch_" + hexID},
		"file":    {"file-" + hexID},
		"daemon":  {hexID},
		"request": {"batch_req_" + hexID + "00000001", "batch_req_" + hexID + "7fffffff"},
	}
	for _, s := range []string{
		"", hexID, "batch_" + hexID, "file-" + hexID, "batch_req_" + hexID + "00000001", "batch_req_" + hexID + "7fffffff",
		"batch_", "batch_" + hexID[1:], "batch_" + hexID + "00", "batch_batch_" + hexID, "file-", "file-" + hexID[2:], "file_" + hexID,
		"batch_req_" + hexID, "batch_req_" + hexID + "00000000", "batch_req_" + hexID + "80000000", hexID + "00000001",
		strings.Replace(hexID, "0", "g", 1), " " + hexID, hexID + "\n", strings.Repeat("\u00e9", 16),
	} {
		for kind, parse := range parsers {
			err := parse(s)
			isValid := false
			for _, v := range valid[kind] {
				isValid = isValid || v == s
			}
			if isValid && err != nil {
				t.Errorf("%s id %q: %v", kind, s, err)
			}
			if !isValid && !errors.Is(err, batch.ErrInvalidID) {
				t.Errorf("%s id %q: %v, want ErrInvalidID", kind, s, err)
			}
		}
	}
}

func FuzzParseIDs(f *testing.F) {
	f.Add(hexID)
	f.Add("batch_req_" + hexID + "00000001")
	f.Fuzz(func(t *testing.T, s string) {
		lower := strings.ToLower(s)
		if id, err := batch.ParseID(s); err == nil && id.String() != lower && id.Token() != lower {
			t.Errorf("ParseID takes %q for %v", s, id)
		}
		if id, err := batch.ParseRequestID(s); err == nil && id.String() != lower {
			t.Errorf("ParseRequestID takes %q for %v", s, id)
		}
	})
}
