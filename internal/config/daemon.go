package config

import (
	"time"

	"fusillade/internal/batch"
)

const (
	// WriteBackMargin is how much longer than Timeout the ProcessingTimeout
	// must be: the time in which the result of a call that ended at the last
	// moment is committed. Without it a slow call is taken for a lost one,
	// and runs twice.
	WriteBackMargin = 5 * time.Second

	// processingSlack is what is added to Timeout when ProcessingTimeout is
	// unset.
	processingSlack = time.Minute

	// streamedTimeout is the least StreamedTimeout where it is unset: 100,000 tokens
	// at 30 a second.
	streamedTimeout = time.Hour

	// heartbeatsToMiss is the least number of heartbeat intervals that make a
	// daemon stale: one lost heartbeat is no death.
	heartbeatsToMiss = 3
)

// Daemon is what governs claims, retries, timeouts and the leader's work. Dispatchers
// and consumers must agree on it.
type Daemon struct {
	ClaimBatchSize           int                  `envconfig:"FUSILLADE_CLAIM_BATCH_SIZE" default:"100" min:"1" max:"10000" unit:"requests" desc:"most requests claimed in one iteration; while more is pending the next iteration starts at once"`
	DefaultModelConcurrency  batch.Limit          `envconfig:"FUSILLADE_DEFAULT_MODEL_CONCURRENCY" default:"10" allowed:"1 to 1000000, auto or auto:MIN-MAX" desc:"most calls in flight, in the whole cluster, to a model without a limit of its own; auto: as many as the endpoint takes"`
	ModelConcurrencyLimits   ModelLimits          `envconfig:"FUSILLADE_MODEL_CONCURRENCY_LIMITS" allowed:"model=limit,… such as gpt-4=5,llama3:70b=auto:4-200, or JSON such as {\"gpt-4\":5}" desc:"limits of single models, as model=limit,… or JSON"`
	DefaultModelRateLimit    RateLimit            `envconfig:"FUSILLADE_DEFAULT_MODEL_RATE_LIMIT" allowed:"requests and tokens for each minute such as 600rpm/100000tpm, or one of them" desc:"most requests and tokens in any minute, in the whole cluster, of a model without a rate limit of its own, such as 600rpm/100000tpm or one of them; empty: no limit"`
	ModelRateLimits          ModelRateLimits      `envconfig:"FUSILLADE_MODEL_RATE_LIMITS" allowed:"model=limit,… such as gpt-4=600rpm/100000tpm,llama3:70b=60rpm, or JSON such as {\"gpt-4\":\"600rpm\"}" desc:"rate limits of single models, as model=limit,… or JSON, such as gpt-4=600rpm/100000tpm"`
	EndpointRateLimits       EndpointRateLimits   `envconfig:"FUSILLADE_ENDPOINT_RATE_LIMITS" allowed:"url=limit,… such as https://api.example.com/v1=600rpm/100000tpm, or JSON" desc:"rate limits of the server's key at single endpoints, over all models that are called there with it, as url=limit,… or JSON"`
	OwnKeyRateLimit          RateLimit            `envconfig:"FUSILLADE_OWN_KEY_RATE_LIMIT" allowed:"requests and tokens for each minute such as 600rpm/100000tpm, or one of them" desc:"rate limit of each key that a batch brings, such as 600rpm/100000tpm; empty: no limit"`
	ModelEscalations         ModelEscalations     `envconfig:"FUSILLADE_MODEL_ESCALATIONS" allowed:"model=other@threshold,… such as gpt-4=o1-preview@900s, or JSON such as {\"gpt-4\":{\"escalation_model\":\"o1-preview\",\"escalation_threshold_seconds\":900}}" desc:"models to switch to near the deadline, as model=other@threshold,… or JSON; threshold 900s if left out"`
	ClaimInterval            Milliseconds         `envconfig:"FUSILLADE_CLAIM_INTERVAL_MS" default:"1000" min:"1" unit:"ms" desc:"pause between claim iterations when idle and nothing wakes the dispatcher"`
	MaxRetries               OptionalInt          `envconfig:"FUSILLADE_MAX_RETRIES" default:"1000" min:"0" max:"1000000000" unit:"retries" desc:"retries of a request before it fails; none: no cap by count"`
	MaxNotFoundRetries       int                  `envconfig:"FUSILLADE_MAX_NOT_FOUND_RETRIES" default:"60" min:"0" max:"1000000" unit:"retries" desc:"retries after answers of status 404, as gateways give while a model is loading; 0: none"`
	StopBeforeDeadline       OptionalMilliseconds `envconfig:"FUSILLADE_STOP_BEFORE_DEADLINE_MS" default:"0" min:"-31536000000" unit:"ms" desc:"retries stop this long before the batch expires; negative: they go on that long after; none: no deadline awareness"`
	Backoff                  Milliseconds         `envconfig:"FUSILLADE_BACKOFF_MS" default:"1000" min:"1" unit:"ms" desc:"delay before the first retry; up to 20 % of jitter is added to every delay"`
	BackoffFactor            int                  `envconfig:"FUSILLADE_BACKOFF_FACTOR" default:"2" min:"1" max:"1000" unit:"times" desc:"what each further retry multiplies the delay by"`
	MaxBackoff               Milliseconds         `envconfig:"FUSILLADE_MAX_BACKOFF_MS" default:"10000" min:"1" unit:"ms" desc:"longest delay before a retry, without jitter and Retry-After"`
	MaxStreamBackoff         Milliseconds         `envconfig:"FUSILLADE_MAX_STREAM_BACKOFF_MS" default:"5000" min:"1" max:"3600000" unit:"ms" desc:"longest backoff that waits in the stream; after a longer one, or beyond an owner's share, the request is claimed anew"`
	MaxHold                  Milliseconds         `envconfig:"FUSILLADE_MAX_HOLD_MS" default:"600000" min:"1" max:"86400000" unit:"ms" desc:"longest time for which Retry-After of a 429, 503 or 529 holds back the endpoint and key that earned it, or one request"`
	HoldAfterRefusals        int                  `envconfig:"FUSILLADE_HOLD_AFTER_REFUSALS" default:"20" min:"0" max:"1000000" unit:"calls" desc:"refused calls in a row (bad key, no quota, unknown model, no connection) after which a consumer has the endpoint and key held; 0: never"`
	ProbeInterval            Milliseconds         `envconfig:"FUSILLADE_PROBE_INTERVAL_MS" default:"5000" min:"10" max:"86400000" unit:"ms" desc:"pause before the first call that finds out whether what is held for refusals answers again; it doubles with each"`
	MaxProbeInterval         Milliseconds         `envconfig:"FUSILLADE_MAX_PROBE_INTERVAL_MS" default:"60000" min:"10" max:"86400000" unit:"ms" desc:"longest pause between such calls"`
	Timeout                  Milliseconds         `envconfig:"FUSILLADE_TIMEOUT_MS" default:"600000" min:"1" unit:"ms" desc:"timeout of one attempt, from connect to last byte, unless its answer is streamed"`
	FirstTokenTimeout        Milliseconds         `envconfig:"FUSILLADE_FIRST_TOKEN_TIMEOUT_MS" derived:"TIMEOUT_MS" min:"1" unit:"ms" desc:"longest time from connect to the first part of a streamed answer"`
	StallTimeout             Milliseconds         `envconfig:"FUSILLADE_STALL_TIMEOUT_MS" default:"120000" min:"1" unit:"ms" desc:"longest time between parts of a streamed answer; keep-alives are none"`
	StreamedTimeout          Milliseconds         `envconfig:"FUSILLADE_STREAMED_TIMEOUT_MS" derived:"3600000, or TIMEOUT_MS if that is longer" min:"1" unit:"ms" desc:"timeout of one attempt whose answer is streamed, from connect to last byte"`
	StatusLogInterval        OptionalMilliseconds `envconfig:"FUSILLADE_STATUS_LOG_INTERVAL_MS" default:"2000" min:"1" unit:"ms" desc:"pause between log lines about the requests in flight; none: no such lines"`
	HeartbeatInterval        Milliseconds         `envconfig:"FUSILLADE_HEARTBEAT_INTERVAL_MS" default:"5000" min:"1" unit:"ms" desc:"pause between heartbeats"`
	ShouldRetry              batch.StatusSet      `envconfig:"FUSILLADE_SHOULD_RETRY" default:"5xx,429,408,404" allowed:"codes, classes and ranges such as 5xx,429,400-408, or none" desc:"HTTP statuses that are retried: codes, classes, ranges; none: no status"`
	ClaimTimeout             Milliseconds         `envconfig:"FUSILLADE_CLAIM_TIMEOUT_MS" default:"60000" min:"1" unit:"ms" desc:"a claimed request that is not started within this, and is not queued, returns to pending"`
	ProcessingTimeout        Milliseconds         `envconfig:"FUSILLADE_PROCESSING_TIMEOUT_MS" derived:"TIMEOUT_MS + 60000" min:"1" unit:"ms" desc:"a request that is processed for longer returns to pending, unless parts of a streamed answer keep coming; at least TIMEOUT_MS + 5000"`
	StaleDaemonThreshold     Milliseconds         `envconfig:"FUSILLADE_STALE_DAEMON_THRESHOLD_MS" default:"30000" min:"1" unit:"ms" desc:"a daemon without a heartbeat for this long is dead; at least 3 × HEARTBEAT_INTERVAL_MS"`
	ReclaimBatchSize         int                  `envconfig:"FUSILLADE_UNCLAIM_BATCH_SIZE" default:"100" min:"1" max:"10000" unit:"requests" desc:"most stale requests taken back in one cycle"`
	CancellationPollInterval Milliseconds         `envconfig:"FUSILLADE_CANCELLATION_POLL_INTERVAL_MS" default:"5000" min:"1" unit:"ms" desc:"pause between looks for batches whose deadline has passed, and for cancelled ones should a push be lost"`
	BatchMetadataFields      MetadataFields       `envconfig:"FUSILLADE_BATCH_METADATA_FIELDS" default:"id,endpoint,created_at,completion_window" allowed:"names of letters, digits, _ and -, separated by commas" desc:"batch columns and metadata keys sent as x-fusillade-batch-… headers; empty: none"`
	PurgeInterval            Milliseconds         `envconfig:"FUSILLADE_PURGE_INTERVAL_MS" default:"3600000" min:"0" unit:"ms" desc:"pause between purges of the rows of deleted files and batches; 0: no purge"`
	PurgeBatchSize           int                  `envconfig:"FUSILLADE_PURGE_BATCH_SIZE" default:"1000" min:"1" max:"100000" unit:"rows" desc:"most rows removed by one delete of a purge"`
	ModelIdle                Milliseconds         `envconfig:"FUSILLADE_MODEL_IDLE_MS" default:"600000" min:"0" unit:"ms" desc:"a model that has had no work for this long gives up its queue, slots and loops, which come back with its next request; 0: never"`
	PurgeThrottle            Milliseconds         `envconfig:"FUSILLADE_PURGE_THROTTLE_MS" default:"100" min:"0" unit:"ms" desc:"longest pause between the deletes of a purge, which otherwise rests four times as long as a delete took"`
}

// RetryPolicy is the part that decides about retries.
func (d *Daemon) RetryPolicy() batch.RetryPolicy {
	return batch.RetryPolicy{
		MaxRetries:         d.MaxRetries.Pointer(),
		MaxNotFoundRetries: &d.MaxNotFoundRetries,
		StopBeforeDeadline: d.StopBeforeDeadline.Pointer(),
		Backoff:            d.Backoff.Duration(),
		Factor:             uint64(d.BackoffFactor),
		MaxBackoff:         d.MaxBackoff.Duration(),
	}
}

// ModelLimit is the most calls to the model that may be in flight in the whole
// cluster, as set at start.
func (d *Daemon) ModelLimit(model batch.Model) batch.Limit {
	if limit, ok := d.ModelConcurrencyLimits[model]; ok {
		return limit
	}
	return d.DefaultModelConcurrency
}

func (d *Daemon) check(p *problems) {
	p.require("DEFAULT_MODEL_CONCURRENCY")
	if d.FirstTokenTimeout == 0 {
		d.FirstTokenTimeout = d.Timeout
	}
	if d.StreamedTimeout == 0 {
		d.StreamedTimeout = max(Milliseconds(streamedTimeout), d.Timeout)
	}
	if d.ProcessingTimeout == 0 {
		d.ProcessingTimeout = d.Timeout + Milliseconds(processingSlack)
	}
	p.relate(d.ProcessingTimeout < d.Timeout+Milliseconds(WriteBackMargin), "PROCESSING_TIMEOUT_MS", "TIMEOUT_MS",
		"is %s, which must be at least %s (%s) + %d for the write of the result",
		d.ProcessingTimeout, prefixed("TIMEOUT_MS"), d.Timeout, WriteBackMargin.Milliseconds())
	p.relate(d.ProcessingTimeout < d.FirstTokenTimeout+Milliseconds(WriteBackMargin) && d.FirstTokenTimeout != d.Timeout, "FIRST_TOKEN_TIMEOUT_MS", "PROCESSING_TIMEOUT_MS",
		"is %s, which must be at most %s (%s) − %d",
		d.FirstTokenTimeout, prefixed("PROCESSING_TIMEOUT_MS"), d.ProcessingTimeout, WriteBackMargin.Milliseconds())
	p.relate(d.StaleDaemonThreshold < heartbeatsToMiss*d.HeartbeatInterval, "STALE_DAEMON_THRESHOLD_MS", "HEARTBEAT_INTERVAL_MS",
		"is %s, which must be at least %d × %s (%s)",
		d.StaleDaemonThreshold, heartbeatsToMiss, prefixed("HEARTBEAT_INTERVAL_MS"), d.HeartbeatInterval)
	p.relate(d.MaxProbeInterval < d.ProbeInterval, "MAX_PROBE_INTERVAL_MS", "PROBE_INTERVAL_MS",
		"is %s, which must be at least %s (%s)", d.MaxProbeInterval, prefixed("PROBE_INTERVAL_MS"), d.ProbeInterval)
	p.relate(d.MaxBackoff < d.Backoff, "MAX_BACKOFF_MS", "BACKOFF_MS",
		"is %s, which must be at least %s (%s)", d.MaxBackoff, prefixed("BACKOFF_MS"), d.Backoff)
}
