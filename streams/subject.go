package streams

import (
	"fmt"
	"strconv"
	"strings"

	"fusillade/internal/batch"
)

const requestsPrefix = "fusillade.requests."

// Subjects of hints.
const (
	// HintWork tells dispatchers that there may be new work or new settings.
	HintWork = "fusillade.hints.work"
	// HintUpstreams tells consumers that models' endpoints or keys have changed.
	HintUpstreams = "fusillade.hints.upstreams"
	// hintDrainedPrefix precedes the token of a model whose messages a
	// consumer has taken off the stream.
	hintDrainedPrefix = "fusillade.hints.drained."
	// HintDrainedAll matches the drained hints of all models.
	HintDrainedAll = hintDrainedPrefix + "*"
	// DispatcherQueue is the queue group that shares out drained hints, so
	// that one dispatcher refills, not all of them.
	DispatcherQueue = "dispatchers"
)

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

// HintDrained is the subject by which a consumer says that it took messages
// of the model off the stream.
func HintDrained(m batch.Model) string { return hintDrainedPrefix + Token(m) }

// ParseHintDrained reads the model from a drained hint's subject.
func ParseHintDrained(subject string) (batch.Model, error) {
	token, ok := strings.CutPrefix(subject, hintDrainedPrefix)
	if !ok {
		return "", fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	return ParseToken(token)
}

// ParseHintCancel reads the batch from a cancel hint's subject. It returns
// ErrToken for what HintCancel never writes.
func ParseHintCancel(subject string) (batch.ID, error) {
	token := subject[strings.LastIndexByte(subject, '.')+1:]
	id, err := batch.ParseID(token)
	if err != nil || HintCancel(id) != subject {
		return batch.ID{}, fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	return id, nil
}
