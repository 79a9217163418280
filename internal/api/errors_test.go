package api

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/control"
)

// Every error of the domain has its answer in the table, but for those that no
// caller of the API can get.
func TestRefusals(t *testing.T) {
	t.Parallel()
	mapped := make(map[error]bool)
	for _, r := range refusals {
		mapped[r.err] = true
	}
	declared := map[string]error{
		"ErrInvalidID": batch.ErrInvalidID, "ErrNotFound": batch.ErrNotFound, "ErrBatchFinished": batch.ErrBatchFinished,
		"ErrNotRerunnable": batch.ErrNotRerunnable, "ErrRerunSuperseded": batch.ErrRerunSuperseded, "ErrFileDeleted": batch.ErrFileDeleted,
		"ErrRerunLimit": batch.ErrRerunLimit, "ErrBatchCancelling": batch.ErrBatchCancelling,
		"ErrKeyGone": batch.ErrKeyGone, "ErrFileState": batch.ErrFileState, "ErrUploadState": batch.ErrUploadState,
		"ErrUploadOverfull": batch.ErrUploadOverfull, "ErrTooMany": batch.ErrTooMany, "ErrNoEscalation": batch.ErrNoEscalation,
		"ErrOtherEndpoint": batch.ErrOtherEndpoint, "ErrBudgetSpent": batch.ErrBudgetSpent, "control.ErrNotGranted": control.ErrNotGranted,
	}
	notOurs := map[string]bool{"ErrDaemonDead": true}
	for _, name := range sentinels(t) {
		if err := declared[name]; !mapped[err] && !notOurs[name] {
			t.Errorf("batch.%s has no answer", name)
		}
	}
	if len(declared) != len(refusals) {
		t.Errorf("%d errors in the table, %d in this test", len(refusals), len(declared))
	}
}

// sentinels are the errors that package batch declares.
func sentinels(t *testing.T) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../batch/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, name := range spec.Names {
				if strings.HasPrefix(name.Name, "Err") {
					names = append(names, name.Name)
				}
			}
		}
		return true
	})
	if len(names) < 10 {
		t.Fatalf("found %v", names)
	}
	return names
}

// An answer names the state, and nothing of what was wrapped around the error.
func TestTranslate(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{RetryAfter: 5}}
	for _, tt := range []struct {
		err           error
		status        int
		code, message string
	}{
		{fmt.Errorf("cancelling: %w", &batch.BatchFinishedError{Status: batch.StatusCompleted}), 409, "batch_ended", "The batch is already completed."},
		{errors.Join(fmt.Errorf("x: %w", &batch.UploadStateError{Status: "cancelled"}), nil), 409, "upload_ended", "The upload is already cancelled."},
		{fmt.Errorf("x: %w", batch.ErrUploadState), 409, "upload_ended", "The upload is not pending."},
		{fmt.Errorf("x: %w", batch.ErrNotFound), 404, "not_found", "Resource not found."},
		{resource{"batch", "batch_1"}.name(fmt.Errorf("x: %w", batch.ErrNotFound)), 404, "not_found", `No such batch: "batch_1"`},
		{&batch.TooManyError{What: "pending uploads of one owner", Limit: 32}, 429, "too_many_uploads", "At most 32 pending uploads of one owner are allowed."},
		{errors.New("secret"), 500, "internal_error", "The server had an error while processing your request. Please try again."},
	} {
		got, known := s.translate(tt.err)
		if got.status != tt.status || got.code != tt.code || got.message != tt.message || known != (tt.status != http.StatusInternalServerError) {
			t.Errorf("%v: %d %s %q", tt.err, got.status, got.code, got.message)
		}
		if (got.retryAfter > 0) != (tt.status == http.StatusTooManyRequests) {
			t.Errorf("%v: retry after %v", tt.err, got.retryAfter)
		}
	}
}
