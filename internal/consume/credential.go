package consume

import (
	"errors"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/upstream"
)

// credentialPause is the shortest backoff of a request without a key: other
// consumers may have it, and an operator may mend it.
const credentialPause = 5 * time.Second

// route says where the task's call goes and with which key; or what came of
// the call, if there can be none.
//
// A key that cannot be had now costs an attempt like an endpoint that is away:
// the request waits out its backoffs, in this consumer or another, and fails
// with its last retry or near its deadline. A batch that brought a key is never
// called with another one.
func (c *Consumer) route(t *task) (upstream.Target, *upstream.Outcome) {
	to, ok := c.cfg.Upstream(t.lane.account.Model())
	if !ok {
		return to, &upstream.Outcome{Reason: batch.BuilderError, Detail: "no upstream is configured for this model"}
	}
	switch {
	case to.Unusable != "" && (to.BaseURL == "" || !t.start.HasOwnKey):
		return to, unavailable(to.Unusable)
	case t.start.HasOwnKey:
		return c.withBatchKey(t, to)
	}
	return to, nil
}

func (c *Consumer) withBatchKey(t *task, to upstream.Target) (upstream.Target, *upstream.Outcome) {
	if c.cfg.BatchKey == nil {
		return to, unavailable("this consumer cannot read the API keys of batches")
	}
	key, err := c.cfg.BatchKey(c.doing, t.delivery.ID.Batch, t.start.Generation)
	switch {
	case errors.Is(err, batch.ErrNotFound):
		return to, &upstream.Outcome{Reason: batch.BuilderError, Detail: "the API key that the batch brought was removed"}
	case err != nil && c.doing.Err() != nil:
		return to, &upstream.Outcome{Reason: batch.TaskTerminated}
	case err != nil:
		return to, unavailable("the API key that the batch brought cannot be used: " + err.Error())
	}
	to.APIKey = key
	return to, nil
}

func unavailable(detail string) *upstream.Outcome {
	return &upstream.Outcome{Reason: batch.CredentialUnavailable, Detail: detail, RetryAfter: credentialPause}
}
