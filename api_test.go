package fusillade_test

import (
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write api.txt anew")

// public are the packages whose API is promised.
var public = []string{".", "./client", "./fusilladetest"}

// What is public changes on purpose only: api.txt lists it.
func TestPublicAPI(t *testing.T) {
	t.Parallel()
	var got []byte
	for _, pkg := range public {
		doc, err := exec.CommandContext(t.Context(), "go", "doc", "-all", pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		got = append(got, doc...)
	}
	if *update {
		if err := os.WriteFile("api.txt", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("api.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("what is public has changed; if that is meant, go test . -run TestPublicAPI -update (-was +is):\n%s", diff)
	}
}
