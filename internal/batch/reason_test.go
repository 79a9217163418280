package batch_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

var update = flag.Bool("update", false, "write the table of reasons into the documentation")

// declaredReasons are the constants of type Reason in the source.
func declaredReasons(t *testing.T) (declared []batch.Reason) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			for _, value := range spec.Values {
				if literal, ok := value.(*ast.BasicLit); ok {
					declared = append(declared, batch.Reason(strings.Trim(literal.Value, `"`)))
				}
			}
		}
		return true
	})
	return declared
}

// Every reason that is declared has one row, which says something of its own.
func TestReasonsAreComplete(t *testing.T) {
	t.Parallel()
	rows := make(map[batch.Reason]int)
	messages := make(map[string]batch.Reason)
	for _, info := range batch.Reasons {
		rows[info.Reason]++
		if info.Message == "" || info.Doc == "" || strings.HasSuffix(info.Message, ".") || !strings.HasSuffix(info.Doc, ".") {
			t.Errorf("%s: message %q, doc %q", info.Reason, info.Message, info.Doc)
		}
		if other, taken := messages[info.Message]; taken {
			t.Errorf("%s and %s have the same message", info.Reason, other)
		}
		messages[info.Message] = info.Reason
	}
	declared := declaredReasons(t)
	if len(declared) == 0 {
		t.Fatal("no reason found in the source")
	}
	for _, reason := range declared {
		if rows[reason] != 1 {
			t.Errorf("%s has %d rows", reason, rows[reason])
		}
	}
	if len(declared) != len(batch.Reasons) {
		t.Errorf("%d reasons are declared, the table has %d", len(declared), len(batch.Reasons))
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for reason, want := range map[batch.Reason]struct {
		retriable bool
		message   string // at status 418
	}{
		batch.RetriableHTTPStatus:    {true, "The model endpoint answered with status 418, and no retry was left"},
		batch.NonRetriableHTTPStatus: {false, "The model endpoint answered with status 418, which is not retried"},
		batch.NetworkError:           {true, "The model endpoint could not be reached, or the connection broke"},
		batch.Timeout:                {true, "The model endpoint did not answer in time"},
		batch.TaskTerminated:         {true, "The process that made the call stopped before it ended"},
		batch.CredentialUnavailable:  {true, "The API key for the model endpoint could not be read"},
		batch.NotFound:               {true, "The model endpoint answered with status 404: it doesn't know the model or the path"},
		batch.RetriableErrorBody:     {true, "The model endpoint answered with status 418 and an error in the body, and no retry was left"},
		batch.NoAnswer:               {true, "The model endpoint answered with status 418 and without an answer"},
		batch.MalformedAnswer:        {true, "The model endpoint answered with status 418, and the body is not an answer to such a request"},
		batch.LocalError:             {true, "The process that made the call had no file descriptors or ports left"},
		batch.QuotaExhausted:         {false, "The account at the model endpoint has no quota or credit left (status 418)"},
		batch.ModelNotFound:          {false, "The model endpoint does not have the model (status 418)"},
		batch.NonRetriableErrorBody:  {false, "The model endpoint answered with status 418 and an error in the body that is not retried"},
		batch.UnexpectedStream:       {false, "The model endpoint answered with a stream of events, which is not read"},
		batch.UnknownEncoding:        {false, "The model endpoint answered in an encoding that is not known"},
		batch.Redirected:             {false, "The model endpoint redirected the request (status 418) to a place that it is not sent to"},
		batch.ResponseIncomplete:     {false, "The model's response is incomplete"},
		batch.ResponseUnfinished:     {false, "The model endpoint answered before the response was finished"},
		batch.ResponseFailed:         {false, "The model's response failed"},
		batch.BuilderError:           {false, "The HTTP request could not be built"},
		batch.ResponseUnstorable:     {false, "The model endpoint answered with status 418, and the database cannot store the answer"},
		batch.Poisoned:               {false, "The request stopped the process that worked on it too often"},
		batch.BatchExpired:           {false, "The batch expired before the request finished"},
		batch.BatchCancelled:         {false, "The request was cancelled before it finished"},
		"":                           {false, "The request failed"},
		"of_a_later_release":         {false, "The request failed"},
	} {
		if got := reason.Retriable(); got != want.retriable {
			t.Errorf("%q.Retriable() = %v, want %v", reason, got, want.retriable)
		}
		if got := reason.Message(418); got != want.message {
			t.Errorf("%q.Message(418) = %q, want %q", reason, got, want.message)
		}
	}
}

const beginReasons, endReasons = "<!-- reasons: begin -->", "<!-- reasons: end -->"

// One document has the table of reasons, and it is the one that the code has.
func TestReasonsInDocuments(t *testing.T) {
	t.Parallel()
	table := "\n| reason | retried | when |\n|---|---|---|\n"
	for _, info := range batch.Reasons {
		table += fmt.Sprintf("| `%s` | %s | %s |\n", info.Reason, map[bool]string{true: "yes", false: "no"}[info.Retriable], info.Doc)
	}
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range documents {
		document, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, begins := strings.Cut(string(document), beginReasons)
		old, after, ends := strings.Cut(rest, endReasons)
		if !begins || !ends {
			continue
		}
		found++
		if *update {
			if err := os.WriteFile(path, []byte(before+beginReasons+table+endReasons+after), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(table, old); diff != "" {
			t.Errorf("%s is out of date; run make readme (-want +got):\n%s", path, diff)
		}
	}
	if found != 1 {
		t.Errorf("%d documents have the table of reasons, want 1", found)
	}
}
