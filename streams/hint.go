package streams

import (
	"fmt"
	"strings"

	"fusillade/internal/batch"
)

// Subjects of hints. A hint is a plain NATS message that says where to look.
// All of them begin with fusillade.hints, so that one permission and one
// subscription cover them.
const (
	hintsPrefix = "fusillade.hints."

	// HintWork tells dispatchers that there may be new work or new settings, that a
	// daemon has ended, which may have left requests, or that a batch has spent its
	// budget.
	HintWork = hintsPrefix + "work"
	// HintUpstreams tells consumers that models' endpoints or keys have changed.
	HintUpstreams = hintsPrefix + "upstreams"
	// HintCallTimes tells dispatchers how long the calls of owners take, so that
	// they share the time of slots. See CallTime for its body.
	HintCallTimes = hintsPrefix + "calltimes"
	// hintDrainedPrefix precedes the token of a model whose messages a
	// consumer has taken off the stream.
	hintDrainedPrefix = hintsPrefix + "drained."
	// HintDrainedAll matches the drained hints of all models.
	HintDrainedAll = hintDrainedPrefix + "*"
	// DispatcherQueue is the queue group that shares out drained hints, so
	// that one dispatcher refills, not all of them.
	DispatcherQueue = "dispatchers"

	// hintOutcomesPrefix precedes the id of the daemon that decides about limits.
	hintOutcomesPrefix = hintsPrefix + "outcomes."

	// hintCancelPrefix precedes the token of a batch of which requests were
	// canceled or have expired.
	hintCancelPrefix = hintsPrefix + "cancel."
	// oldHintCancelPrefix is what releases up to 0.1 use in its place.
	oldHintCancelPrefix = "fusillade.hint.cancel."
)

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

// HintOutcomes is the subject by which daemons tell another one, which decides about
// automatic limits, the outcomes of their calls. It is a request: its answer is empty,
// and says that the other one is there.
func HintOutcomes(d batch.DaemonID) string { return hintOutcomesPrefix + d.String() }

// HintCancel is the subject by which consumers hear that requests of the batch
// were canceled or have expired, and that their calls are to be aborted.
// Without a body the hint is about the whole batch; else its body is the
// decimal line numbers of the requests, separated by newlines.
//
// The subject had another prefix before. For one release a publisher sends the
// hint to both of HintCancelSubjects and a consumer listens to both of
// HintCancelPatterns, so that old and new programs hear one another in either
// direction while a cluster is upgraded. A consumer that hears a hint twice
// looks twice. Once all programs are of this release, the old subject is
// needed no more.
func HintCancel(id batch.ID) string { return hintCancelPrefix + id.Token() }

// HintCancelSubjects are the subjects to which the cancel hint of a batch is
// published.
func HintCancelSubjects(id batch.ID) []string {
	return []string{HintCancel(id), oldHintCancelPrefix + id.Token()}
}

// HintCancelPatterns match the cancel hints of all batches, each on one of
// HintCancelSubjects.
func HintCancelPatterns() []string {
	return []string{hintCancelPrefix + "*", oldHintCancelPrefix + "*"}
}

// ParseHintCancel reads the batch from one of HintCancelSubjects. It returns
// ErrToken for what is none.
func ParseHintCancel(subject string) (batch.ID, error) {
	token, ok := strings.CutPrefix(subject, hintCancelPrefix)
	if !ok {
		token, ok = strings.CutPrefix(subject, oldHintCancelPrefix)
	}
	id, err := batch.ParseID(token)
	if !ok || err != nil || id.Token() != token { // ParseID takes more spellings than one
		return batch.ID{}, fmt.Errorf("subject %q: %w", subject, ErrToken)
	}
	return id, nil
}
