package streams

import (
	"fmt"
	"strconv"
	"strings"

	"fusillade/internal/batch"
)

const requestsPrefix = "fusillade.requests."

// RequestSubject is where the message of one claimed request is published.
func RequestSubject(m batch.Model, id batch.RequestID) string {
	return requestsPrefix + Token(m) + "." + id.Batch.Token() + "." + strconv.Itoa(int(id.Line))
}

// ParseRequestSubject reverses RequestSubject. It returns ErrToken for what
// RequestSubject never writes.
func ParseRequestSubject(subject string) (batch.Model, batch.RequestID, error) {
	rest, ok := strings.CutPrefix(subject, requestsPrefix)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return "", batch.RequestID{}, fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	m, err := ParseToken(parts[0])
	if err != nil {
		return "", batch.RequestID{}, fmt.Errorf("subject %q: %w", subject, err)
	}
	batchID, err := batch.ParseID(parts[1])
	if err != nil {
		return "", batch.RequestID{}, fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	line, err := strconv.ParseInt(parts[2], 10, 32)
	id := batch.RequestID{Batch: batchID, Line: int32(line)}
	// Both parsers take more spellings than one.
	if err != nil || line < 1 || RequestSubject(m, id) != subject {
		return "", batch.RequestID{}, fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	return m, id, nil
}

// ModelSubjects matches the messages of one model.
func ModelSubjects(m batch.Model) string { return requestsPrefix + Token(m) + ".>" }

// BatchSubjects matches the messages of one batch, of whatever model.
func BatchSubjects(id batch.ID) string { return requestsPrefix + "*." + id.Token() + ".*" }

// LineSubjects matches the messages of one request, of whatever model.
func LineSubjects(id batch.RequestID) string {
	return requestsPrefix + "*." + id.Batch.Token() + "." + strconv.Itoa(int(id.Line))
}
