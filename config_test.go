package fusillade

import (
	"net/url"
	"reflect"
	"testing"
	"time"
)

// reference are the fields of the Rust library's DaemonConfig, with the field of
// Config that each is, and its default.
var reference = []struct {
	name, field string
	want        any
}{
	{"claim_batch_size", "ClaimBatchSize", 100},
	{"default_model_concurrency", "DefaultModelConcurrency", 10},
	{"model_concurrency_limits", "ModelConcurrencyLimits", map[string]int(nil)},
	{"model_escalations", "ModelEscalations", map[string]Escalation(nil)},
	{"claim_interval_ms", "ClaimInterval", time.Second},
	{"max_retries", "MaxRetries", pointer(1000)},
	{"stop_before_deadline_ms", "StopBeforeDeadline", pointer(time.Duration(0))},
	{"backoff_ms", "Backoff", time.Second},
	{"backoff_factor", "BackoffFactor", 2},
	{"max_backoff_ms", "MaxBackoff", 10 * time.Second},
	{"timeout_ms", "Timeout", 10 * time.Minute},
	{"status_log_interval_ms", "StatusLogInterval", pointer(2 * time.Second)},
	{"heartbeat_interval_ms", "HeartbeatInterval", 5 * time.Second},
	{"should_retry", "ShouldRetry", (func(Response) bool)(nil)},
	{"claim_timeout_ms", "ClaimTimeout", time.Minute},
	{"processing_timeout_ms", "ProcessingTimeout", time.Duration(0)}, // Timeout and a minute: a call may take Timeout
	{"stale_daemon_threshold_ms", "StaleDaemonThreshold", 30 * time.Second},
	{"unclaim_batch_size", "ReclaimBatchSize", 100},
	{"cancellation_poll_interval_ms", "CancellationPollInterval", 5 * time.Second},
	{"batch_metadata_fields", "BatchMetadataFields", []string{"id", "endpoint", "created_at", "completion_window"}},
	{"purge_interval_ms", "PurgeInterval", time.Hour},
	{"purge_batch_size", "PurgeBatchSize", 1000},
	{"purge_throttle_ms", "PurgeThrottle", 100 * time.Millisecond},
}

func pointer[T any](v T) *T { return &v }

// Each field of the reference is a field here, with its default.
func TestFieldsOfTheReference(t *testing.T) {
	t.Parallel()
	if len(reference) != 23 {
		t.Errorf("%d fields, want 23", len(reference))
	}
	seen := make(map[string]bool)
	defaults := reflect.ValueOf(DefaultConfig())
	for _, f := range reference {
		got := defaults.FieldByName(f.field)
		if !got.IsValid() || seen[f.field] {
			t.Errorf("%s: there is no field %s of its own", f.name, f.field)
			continue
		}
		seen[f.field] = true
		if want := reflect.ValueOf(f.want); want.Kind() == reflect.Func {
			if got.Type() != want.Type() || !got.IsNil() {
				t.Errorf("%s: %s is %v, want nil", f.name, f.field, got)
			}
		} else if !reflect.DeepEqual(got.Interface(), f.want) {
			t.Errorf("%s: the default of %s is %v, want %v", f.name, f.field, got, f.want)
		}
	}
}

// What the environment says does not matter to a program that embeds Fusillade.
func TestEnvironmentIsNotRead(t *testing.T) {
	for name, value := range map[string]string{
		"FUSILLADE_CLAIM_BATCH_SIZE": "7", "FUSILLADE_UPSTREAM_API_KEY": "sk-2", "FUSILLADE_UNKNOWN": "1", "HTTPS_PROXY": "http://proxy.invalid:3128",
	} {
		t.Setenv(name, value)
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Upstream = t.TempDir(), "https://api.example.com"
	s, err := cfg.settings()
	if err != nil {
		t.Fatal(err)
	}
	if s.ClaimBatchSize != 100 || s.Upstream.APIKey.IsSet() {
		t.Errorf("claims of %d, and a key: %v", s.ClaimBatchSize, s.Upstream.APIKey.IsSet())
	}
	if proxy := s.Upstream.Proxy.For(); proxy != nil {
		if to, err := proxy(&url.URL{Scheme: "https", Host: "api.example.com"}); err != nil || to != nil {
			t.Errorf("calls go through %v, %v", to, err)
		}
	}
}
