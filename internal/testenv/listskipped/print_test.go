package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const events = `
{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"    a_test.go:3: what a good test says\n"}
{"Action":"pass","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestBrowser","Output":"=== RUN   TestBrowser\n"}
{"Action":"output","Package":"a","Test":"TestBrowser","Output":"    a_test.go:9: it needs a browser: none is here\n"}
{"Action":"output","Package":"a","Test":"TestBrowser","Output":"--- SKIP: TestBrowser (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestBrowser"}
{"Action":"output","Package":"a","Test":"TestLarge/one","Output":"    a_test.go:12: it is large\n"}
{"Action":"skip","Package":"a","Test":"TestLarge/one"}
{"Action":"output","Package":"a","Test":"TestLarge/two","Output":"    a_test.go:12: it is large\n"}
{"Action":"skip","Package":"a","Test":"TestLarge/two"}
{"Action":"output","Package":"a","Output":"testenv: the server\n"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.003s\n"}
{"Action":"pass","Package":"a","Elapsed":0.003}
{"Action":"output","Package":"b","Test":"TestBad","Output":"    b_test.go:3: what a bad test says\n"}
{"Action":"fail","Package":"b","Test":"TestBad"}
{"Action":"output","Package":"b","Test":"TestDies","Output":"panic: it dies\n"}
{"Action":"output","Package":"b","Output":"FAIL\tb\t0.003s\n"}
{"Action":"fail","Package":"b","Elapsed":0.003}
{"ImportPath":"c","Action":"build-output","Output":"c.go:1: it does not build\n"}
{"ImportPath":"c","Action":"build-fail"}
{"Action":"output","Package":"c","Output":"FAIL\tc [build failed]\n"}
{"Action":"fail","Package":"c","FailedBuild":"c"}
{"Action":"output","Package":"d","Output":"?   \td\t[no test files]\n"}
{"Action":"skip","Package":"d","Elapsed":0}
not json
`

const printed = "ok  \ta\t0.003s\n" +
	"    b_test.go:3: what a bad test says\n" +
	"panic: it dies\n" +
	"FAIL\tb\t0.003s\n" +
	"c.go:1: it does not build\n" +
	"FAIL\tc [build failed]\n" +
	"?   \td\t[no test files]\n" +
	"not json\n" +
	"SKIPPED\ta\tit is large: TestLarge/one, TestLarge/two\n" +
	"skipped\ta\tit needs a browser: none is here: TestBrowser\n"

func written(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// What the tests say is printed as go test would, and each skip is named.
func TestPrints(t *testing.T) {
	t.Parallel()
	list := written(t, "# of this machine\n\na TestBro* no browser\nb TestLarge another package's\n")
	command := []string{"cat", written(t, strings.TrimPrefix(events, "\n"))}
	for _, tt := range []struct {
		name   string
		refuse bool
		code   int
		more   string
	}{
		{"it is told", false, 0, ""},
		{"it is refused", true, 1, "FAIL: 2 skipped tests are not in " + list + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			code, err := run(tt.refuse, list, command, &out)
			if err != nil || code != tt.code {
				t.Errorf("exit code %d, %v", code, err)
			}
			if diff := cmp.Diff(printed+tt.more, out.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
		})
	}
}

// The command's exit code is that of the whole.
func TestExitCode(t *testing.T) {
	t.Parallel()
	if code, err := run(true, "", []string{"sh", "-c", "exit 3"}, new(strings.Builder)); code != 3 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if code, err := run(true, "", []string{filepath.Join(t.TempDir(), "nothing")}, new(strings.Builder)); code != codeFailed || err == nil {
		t.Errorf("exit code %d, %v of a command that is not there", code, err)
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	may, err := readAllowed(written(t, "m/a TestLarge it is large\nm/* TestOne/part why\n"))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[name]bool{
		{"m/a", "TestLarge"}: true, {"m/a", "TestLarge/x/y"}: true, {"m/a", "TestLarger"}: false, {"m/b", "TestLarge"}: false,
		{"m/b", "TestOne/part"}: true, {"m/b", "TestOne/part/of"}: true, {"m/b", "TestOne"}: false, {"m/b/c", "TestOne/part"}: false,
	} {
		if may.has(n) != want {
			t.Errorf("%v may be skipped: %t", n, !want)
		}
	}
	for text, want := range map[string]string{"m/a TestLarge\n": ":1: want a package", "\nm/a [ why\n": ":2: "} {
		if _, err := readAllowed(written(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The list in use is well-formed.
func TestList(t *testing.T) {
	t.Parallel()
	if may, err := readAllowed("allowed.txt"); err != nil || len(may) == 0 {
		t.Error(len(may), err)
	}
}
