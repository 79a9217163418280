package fusillade_test

import (
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write api.txt anew")

// What is public changes on purpose only: api.txt lists it.
func TestPublicAPI(t *testing.T) {
	t.Parallel()
	got, err := exec.CommandContext(t.Context(), "go", "doc", "-all", "-short", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
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
