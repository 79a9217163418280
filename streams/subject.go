package streams

import (
	"fmt"
	"strconv"
	"strings"

	"fusillade/internal/batch"
)

const requestsPrefix = "fusillade.requests"

// ParseRequestSubject reverses RequestSubject, of whatever shard. It returns ErrToken for what
// RequestSubject never writes.
func ParseRequestSubject(subject string) (batch.Model, batch.RequestID, error) {
	prefix, rest, ok := strings.Cut(strings.TrimPrefix(subject, "fusillade."), ".")
	shard, known := ParseShard(strings.ToUpper(prefix))
	parts := strings.Split(rest, ".")
	if !ok || !known || len(parts) != 3 {
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
	if err != nil || line < 1 || shard.RequestSubject(m, id) != subject {
		return "", batch.RequestID{}, fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	return m, id, nil
}
