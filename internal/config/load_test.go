package config

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	database = "FUSILLADE_DATABASE_URL=postgres://u:hunter2@db:5432/fusillade"
	broker   = "FUSILLADE_NATS_URL=nats://u:hunter2@nats:4222"
)

// variables returns the variables that err complains about.
func variables(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var settings *Error
	if !errors.As(err, &settings) {
		t.Fatalf("error is %T, want *Error: %v", err, err)
	}
	var names []string
	for _, problem := range settings.Problems {
		names = append(names, problem.Variable)
	}
	return names
}

func TestLoadDefaults(t *testing.T) {
	var cfg Standalone
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"FUSILLADE_CLAIM_BATCH_SIZE":              "100",
		"FUSILLADE_DEFAULT_MODEL_CONCURRENCY":     "10",
		"FUSILLADE_MODEL_CONCURRENCY_LIMITS":      "",
		"FUSILLADE_MODEL_ESCALATIONS":             "",
		"FUSILLADE_CLAIM_INTERVAL_MS":             "1000",
		"FUSILLADE_MAX_RETRIES":                   "1000",
		"FUSILLADE_MAX_NOT_FOUND_RETRIES":         "60",
		"FUSILLADE_STOP_BEFORE_DEADLINE_MS":       "0",
		"FUSILLADE_BACKOFF_MS":                    "1000",
		"FUSILLADE_BACKOFF_FACTOR":                "2",
		"FUSILLADE_MAX_BACKOFF_MS":                "10000",
		"FUSILLADE_TIMEOUT_MS":                    "600000",
		"FUSILLADE_STATUS_LOG_INTERVAL_MS":        "2000",
		"FUSILLADE_HEARTBEAT_INTERVAL_MS":         "5000",
		"FUSILLADE_SHOULD_RETRY":                  "5xx,429,408,404",
		"FUSILLADE_CLAIM_TIMEOUT_MS":              "60000",
		"FUSILLADE_PROCESSING_TIMEOUT_MS":         "660000",
		"FUSILLADE_STALE_DAEMON_THRESHOLD_MS":     "30000",
		"FUSILLADE_UNCLAIM_BATCH_SIZE":            "100",
		"FUSILLADE_CANCELLATION_POLL_INTERVAL_MS": "5000",
		"FUSILLADE_BATCH_METADATA_FIELDS":         "id,endpoint,created_at,completion_window",
		"FUSILLADE_PURGE_INTERVAL_MS":             "3600000",
		"FUSILLADE_PURGE_BATCH_SIZE":              "1000",
		"FUSILLADE_PURGE_THROTTLE_MS":             "100",
		"FUSILLADE_MODEL_IDLE_MS":                 "600000",
		"FUSILLADE_DATABASE_URL":                  "",
		"FUSILLADE_DATABASE_MAX_CONNS":            "10",
		"FUSILLADE_NATS_URL":                      "",
		"FUSILLADE_NATS_CREDS":                    "",
		"FUSILLADE_NATS_NKEY":                     "",
		"FUSILLADE_NATS_CERT":                     "",
		"FUSILLADE_NATS_KEY":                      "",
		"FUSILLADE_NATS_CA":                       "",
		"FUSILLADE_STREAM_REPLICAS":               "1",
		"FUSILLADE_STREAM_PLACEMENT_TAGS":         "",
		"FUSILLADE_STREAM_SHARDS":                 "8",
		"FUSILLADE_DRAIN_TIMEOUT_MS":              "30000",
		"FUSILLADE_MAX_IN_FLIGHT":                 "1000",
		"FUSILLADE_MAX_TAKEOVERS":                 "5",
		"FUSILLADE_UPSTREAM_URL":                  "",
		"FUSILLADE_UPSTREAM_API_KEY":              "",
		"FUSILLADE_UPSTREAM_PROXY":                "",
		"FUSILLADE_MODEL_UPSTREAMS":               "",
		"FUSILLADE_ENCRYPTION_KEY":                "",
		"FUSILLADE_WEBHOOK_ALLOW_PRIVATE":         "false",
		"FUSILLADE_LISTEN_ADDR":                   "127.0.0.1:8080",
		"FUSILLADE_API_AUTH":                      "",
		"FUSILLADE_MAX_ACTIVE_BATCHES":            "1000",
		"FUSILLADE_MAX_QUEUED_REQUESTS":           "none",
		"FUSILLADE_MAX_FILE_REQUESTS":             "1000000",
		"FUSILLADE_MAX_FILE_BYTES":                "2147483648",
		"FUSILLADE_MAX_REQUEST_BYTES":             "10485760",
		"FUSILLADE_MAX_UPLOADS":                   "4",
		"FUSILLADE_MAX_UPLOADS_PER_OWNER":         "2",
		"FUSILLADE_MAX_DOWNLOADS_PER_OWNER":       "4",
		"FUSILLADE_MAX_EVENT_STREAMS_PER_OWNER":   "64",
		"FUSILLADE_UPLOAD_TIMEOUT_MS":             "3600000",
		"FUSILLADE_MAX_MODELS_PER_OWNER":          "1000",
		"FUSILLADE_MAX_MODELS":                    "10000",
		"FUSILLADE_MODELS_ALLOWED":                "",
		"FUSILLADE_API_HOSTS":                     "",
		"FUSILLADE_ADMIN_ADDR":                    "",
		"FUSILLADE_LOG_LEVEL":                     "info",
		"FUSILLADE_LOG_FORMAT":                    "",
	}
	got := Snapshot(&cfg)
	for variable, value := range want {
		if shown, ok := got[variable]; !ok || shown != value {
			t.Errorf("%s is %q by default, want %q", variable, shown, value)
		}
	}
}

// Every binary refuses each of these, and names the variable.
func TestLoadRefusesBadValues(t *testing.T) {
	tests := []struct{ variable, value, problem string }{
		{"CLAIM_BATCH_SIZE", "0", "is 0, which is out of range (allowed: a whole number from 1 to 10000)"},
		{"CLAIM_BATCH_SIZE", "10001", "out of range"},
		{"CLAIM_BATCH_SIZE", "0100", `is "0100", which is not a whole number`},
		{"CLAIM_BATCH_SIZE", "0x10", "not a whole number"},
		{"CLAIM_BATCH_SIZE", "1_000", "not a whole number"},
		{"CLAIM_BATCH_SIZE", "+5", "not a whole number"},
		{"CLAIM_BATCH_SIZE", "99999999999999999999", "out of range"},
		{"DEFAULT_MODEL_CONCURRENCY", "-1", "is not a whole number from 1 to 1000000, auto or auto:MIN-MAX"},
		{"MODEL_CONCURRENCY_LIMITS", "gpt-4=0", `has the element "gpt-4=0"`},
		{"MODEL_ESCALATIONS", "gpt-4=gpt-4", `has the model "gpt-4" escalate to itself`},
		{"CLAIM_INTERVAL_MS", "0", "out of range (allowed: a whole number of milliseconds from 1 to 31536000000)"},
		{"CLAIM_INTERVAL_MS", "1s", `is "1s", which is not a whole number`},
		{"MAX_RETRIES", "-1", "or none"},
		{"MAX_RETRIES", "never", `is "never"`},
		{"STOP_BEFORE_DEADLINE_MS", "soon", "or none"},
		{"BACKOFF_MS", "0", "out of range"},
		{"BACKOFF_FACTOR", "0", "out of range"},
		{"BACKOFF_FACTOR", "1.5", "not a whole number"},
		{"MAX_BACKOFF_MS", "31536000001", "out of range"},
		{"TIMEOUT_MS", "", "is empty"},
		{"STATUS_LOG_INTERVAL_MS", "0", "or none"},
		{"HEARTBEAT_INTERVAL_MS", "-5", "out of range"},
		{"CLAIM_TIMEOUT_MS", "1e3", "not a whole number"},
		{"PROCESSING_TIMEOUT_MS", "0", "out of range"},
		{"STALE_DAEMON_THRESHOLD_MS", "0", "out of range"},
		{"UNCLAIM_BATCH_SIZE", "0", "out of range"},
		{"CANCELLATION_POLL_INTERVAL_MS", "0", "out of range"},
		{"BATCH_METADATA_FIELDS", "id,a b", `has the element "a b"`},
		{"PURGE_INTERVAL_MS", "-1", "out of range"},
		{"PURGE_BATCH_SIZE", "0", "out of range"},
		{"PURGE_THROTTLE_MS", "-1", "out of range"},
		{"MODEL_IDLE_MS", "-1", "out of range"},
		{"DATABASE_MAX_CONNS", "1", "out of range"},
		{"NATS_URL", "http://nats:4222", "does not begin with nats://"},
		{"NATS_CREDS", "/nonexistent/creds", "names a file that cannot be read"},
		{"STREAM_REPLICAS", "6", "out of range"},
		{"STREAM_PLACEMENT_TAGS", "az:1,,ssd", "an empty element, number 2"},
		{"STREAM_PLACEMENT_TAGS", "az 1", "a blank in it"},
		{"STREAM_SHARDS", "0", "out of range"},
		{"DRAIN_TIMEOUT_MS", "-1", "out of range"},
		{"ADMIN_ADDR", "9090", "not host:port"},
		{"ADMIN_ADDR", ":http", "port is not from 0 to 65535"},
		{"LOG_LEVEL", "trace", "allowed: debug, info, warn or error"},
		{"LOG_FORMAT", "xml", "allowed: json or text"},
		{"DATABASE_URL", "mysql://u:hunter2@db/x", "scheme postgres"},
		{"DATABASE_URL", "postgres://u:hunter2/@db/x", "is not a URL"},
		{"DATABASE_URL", "postgres:///x", "has no host"},
		{"ENCRYPTION_KEY", "hunter2", "is not a key of 32 bytes"},
	}
	binaries := map[string]func() Settings{
		"dispatcher": func() Settings { return new(Dispatcher) },
		"consumer":   func() Settings { return new(Consumer) },
		"standalone": func() Settings { return new(Standalone) },
	}
	for name, binary := range binaries {
		t.Run(name, func(t *testing.T) {
			for _, tt := range tests {
				t.Run(tt.variable+"="+strings.ReplaceAll(tt.value, "/", "|"), func(t *testing.T) {
					setenv(t, database, broker, "FUSILLADE_"+tt.variable+"="+tt.value)
					assertRefused(t, Load(binary()), "FUSILLADE_"+tt.variable, tt.problem)
				})
			}
		})
	}
}

func TestLoadRefusesBadValuesOfConsumer(t *testing.T) {
	tests := []struct{ variable, value, problem string }{
		{"MAX_IN_FLIGHT", "0", "out of range"},
		{"MAX_TAKEOVERS", "0", "out of range"},
		{"UPSTREAM_URL", "ftp://u:hunter2@host", "does not begin with http:// or https://"},
		{"UPSTREAM_URL", "https://", "has no host"},
		{"UPSTREAM_URL", "https://u:hunter2@host:70000", "has a port that is not from 1 to 65535"},
		{"UPSTREAM_URL", "https://host/#hunter2", "has a fragment"},
		{"UPSTREAM_URL", "https://u:hunter2%@host", "is not a URL"},
		{"UPSTREAM_API_KEY", "hunter2\nhunter3\n", "line end"},
		{"MODEL_UPSTREAMS", "gpt-4=u:hunter2@host", `has the model "gpt-4" with a URL that`},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			setenv(t, database, broker, "FUSILLADE_"+tt.variable+"="+tt.value)
			assertRefused(t, Load(new(Consumer)), "FUSILLADE_"+tt.variable, tt.problem)
			if err := Load(new(Dispatcher)); err != nil {
				t.Errorf("a dispatcher, which does not use the variable, refuses it: %v", err)
			}
		})
	}
}

func assertRefused(t *testing.T, err error, variable, problem string) {
	t.Helper()
	if diff := cmp.Diff([]string{variable}, variables(t, err)); diff != "" {
		t.Errorf("bad variables (-want +got):\n%s", diff)
	}
	if !strings.Contains(errorOf(err), problem) {
		t.Errorf("error %q, want %q in it", errorOf(err), problem)
	}
	if strings.Contains(errorOf(err), "hunter2") {
		t.Errorf("error shows a secret: %v", err)
	}
}

func TestLoadNamesAllProblemsAtOnce(t *testing.T) {
	setenv(t,
		"FUSILLADE_MAX_RETRIES=lots",
		"FUSILLADE_TIMEOUT_MS=soon",
		"FUSILLADE_HEARTBEAT_INTERVAL_MS=20000",
		"FUSILLADE_LOG_LEVEL=loud",
		"FUSILLADE_CLAIM_BATCHSIZE=7",
		"NATS_URL=http://nats")
	err := Load(new(Dispatcher))
	want := `the settings are not usable:
  FUSILLADE_MAX_RETRIES is "lots", which is not a whole number (allowed: a whole number from 0 to 1000000000, or none)
  FUSILLADE_TIMEOUT_MS is "soon", which is not a whole number (allowed: a whole number of milliseconds from 1 to 31536000000)
  NATS_URL has a bad server, number 1, which does not begin with nats:// or tls:// or ws:// or wss:// (allowed: servers such as nats://host:4222, with scheme nats, tls, ws or wss, separated by commas)
  FUSILLADE_LOG_LEVEL is "loud", which is not a level (allowed: debug, info, warn or error)
  FUSILLADE_DATABASE_URL is required (allowed: a URL such as postgres://user@host:5432/database, with special characters in the password percent-encoded)
  FUSILLADE_STALE_DAEMON_THRESHOLD_MS is 30000, which must be at least 3 × FUSILLADE_HEARTBEAT_INTERVAL_MS (20000)
  FUSILLADE_CLAIM_BATCHSIZE is not a setting: did you mean FUSILLADE_CLAIM_BATCH_SIZE?`
	if diff := cmp.Diff(want, errorOf(err)); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestLoadWhatDoesNotFitTogether(t *testing.T) {
	const a, b = "FUSILLADE_PROCESSING_TIMEOUT_MS", "FUSILLADE_TIMEOUT_MS"
	tests := []struct {
		name    string
		environ []string
		want    []string // variables in the error; none: no error
	}{
		{"processing as long as timeout", []string{a + "=600000"}, []string{a, b}},
		{"processing just short of the margin", []string{a + "=14999", b + "=10000"}, []string{a, b}},
		{"processing with the margin", []string{a + "=15000", b + "=10000"}, nil},
		{"first token after the processing", []string{"FUSILLADE_FIRST_TOKEN_TIMEOUT_MS=655001"}, []string{"FUSILLADE_FIRST_TOKEN_TIMEOUT_MS", a}},
		{"first token within the processing", []string{"FUSILLADE_FIRST_TOKEN_TIMEOUT_MS=655000"}, nil},
		{"bad timeout hides the pair", []string{a + "=1", b + "=x"}, []string{b}},
		{"stale too soon", []string{"FUSILLADE_STALE_DAEMON_THRESHOLD_MS=14999"}, []string{"FUSILLADE_STALE_DAEMON_THRESHOLD_MS", "FUSILLADE_HEARTBEAT_INTERVAL_MS"}},
		{"stale in time", []string{"FUSILLADE_STALE_DAEMON_THRESHOLD_MS=15000"}, nil},
		{"max backoff too short", []string{"FUSILLADE_MAX_BACKOFF_MS=999"}, []string{"FUSILLADE_MAX_BACKOFF_MS", "FUSILLADE_BACKOFF_MS"}},
		{"max backoff as long", []string{"FUSILLADE_MAX_BACKOFF_MS=1000"}, nil},
		{"two credentials", []string{"NATS_CREDS=FILE", "NATS_NKEY=FILE"}, []string{"NATS_CREDS", "FUSILLADE_NATS_NKEY"}},
		{"certificate without key", []string{"NATS_CERT=FILE"}, []string{"NATS_CERT", "FUSILLADE_NATS_KEY"}},
		{"key without certificate", []string{"NATS_KEY=FILE"}, []string{"NATS_KEY", "FUSILLADE_NATS_CERT"}},
		{"certificate and key", []string{"NATS_CERT=FILE", "NATS_KEY=FILE", "NATS_CA=FILE"}, nil},
		{"endpoints' certificate without key", []string{"FUSILLADE_UPSTREAM_CERT=FILE"}, []string{"FUSILLADE_UPSTREAM_CERT", "FUSILLADE_UPSTREAM_KEY"}},
		{"endpoints' key without certificate", []string{"FUSILLADE_UPSTREAM_KEY=FILE"}, []string{"FUSILLADE_UPSTREAM_KEY", "FUSILLADE_UPSTREAM_CERT"}},
		{"no certificate and key of endpoints", []string{"FUSILLADE_UPSTREAM_KEY=FILE", "FUSILLADE_UPSTREAM_CERT=FILE"}, []string{"FUSILLADE_UPSTREAM_CERT", "FUSILLADE_UPSTREAM_KEY"}},
		{"no authorities of endpoints", []string{"FUSILLADE_UPSTREAM_CA=FILE"}, []string{"FUSILLADE_UPSTREAM_CA"}},
		{"replicas of one server", []string{"FUSILLADE_STREAM_REPLICAS=3"}, []string{"FUSILLADE_STREAM_REPLICAS", "FUSILLADE_NATS_URL"}},
		{"replicas of servers", []string{"FUSILLADE_STREAM_REPLICAS=3", broker}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, "x")
			for _, entry := range tt.environ {
				setenv(t, strings.ReplaceAll(entry, "=FILE", "="+path))
			}
			err := Load(new(Standalone))
			if len(tt.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if got := variables(t, err); len(got) != 1 || got[0] != tt.want[0] {
				t.Errorf("complains about %v, want %v", got, tt.want[:1])
			}
			for _, name := range tt.want {
				if !strings.Contains(errorOf(err), name) {
					t.Errorf("error lacks %s: %v", name, err)
				}
			}
		})
	}
}

func TestLoadDerivesProcessingTimeout(t *testing.T) {
	setenv(t, "FUSILLADE_TIMEOUT_MS=1000")
	var cfg Standalone
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if got := cfg.ProcessingTimeout.Duration(); got != 61*time.Second {
		t.Errorf("processing timeout %s, want a minute more than the timeout", got)
	}
}

func TestLoadDerivesStreamTimeouts(t *testing.T) {
	for _, test := range []struct {
		environ                     []string
		first, streamed, processing time.Duration
	}{
		{nil, 10 * time.Minute, time.Hour, 11 * time.Minute},
		{[]string{"FUSILLADE_TIMEOUT_MS=7200000"}, 2 * time.Hour, 2 * time.Hour, 2*time.Hour + time.Minute},
		{[]string{"FUSILLADE_FIRST_TOKEN_TIMEOUT_MS=1000", "FUSILLADE_STREAMED_TIMEOUT_MS=2000"}, time.Second, 2 * time.Second, 11 * time.Minute},
	} {
		t.Run(strings.Join(test.environ, " "), func(t *testing.T) {
			setenv(t, test.environ...)
			var cfg Standalone
			if err := Load(&cfg); err != nil {
				t.Fatal(err)
			}
			if cfg.FirstTokenTimeout.Duration() != test.first || cfg.StreamedTimeout.Duration() != test.streamed || cfg.ProcessingTimeout.Duration() != test.processing {
				t.Errorf("first token %v, streamed %v, processing %v, want %v, %v, %v", cfg.FirstTokenTimeout, cfg.StreamedTimeout, cfg.ProcessingTimeout,
					test.first, test.streamed, test.processing)
			}
		})
	}
}

func TestLoadNone(t *testing.T) {
	setenv(t, "FUSILLADE_MAX_RETRIES=none", "FUSILLADE_STOP_BEFORE_DEADLINE_MS=None", "FUSILLADE_STATUS_LOG_INTERVAL_MS=none")
	var cfg Standalone
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.MaxRetries.Pointer() != nil || cfg.StopBeforeDeadline.Pointer() != nil || cfg.StatusLogInterval.Pointer() != nil {
		t.Errorf("none is %v, %v, %v", cfg.MaxRetries, cfg.StopBeforeDeadline, cfg.StatusLogInterval)
	}
	policy := cfg.RetryPolicy()
	if policy.MaxRetries != nil || policy.StopBeforeDeadline != nil {
		t.Errorf("retry policy has limits: %+v", policy)
	}
}

// A snapshot, fed back, yields the same settings.
func TestSnapshotLoads(t *testing.T) {
	setenv(t,
		"FUSILLADE_MODEL_CONCURRENCY_LIMITS=gpt-4=5,llama3:70b=20",
		"FUSILLADE_MODEL_ESCALATIONS=gpt-4=o1-preview",
		"FUSILLADE_MODEL_UPSTREAMS=gpt-4=https://a.example/v1/",
		"FUSILLADE_STOP_BEFORE_DEADLINE_MS=-300000",
		"FUSILLADE_MAX_RETRIES=none",
		"FUSILLADE_BATCH_METADATA_FIELDS=",
		"FUSILLADE_LOG_LEVEL=WARN", "FUSILLADE_LOG_FORMAT=text", "FUSILLADE_ADMIN_ADDR=:9090",
		"NATS_URL=a:1,b")
	var first, second Standalone
	if err := Load(&first); err != nil {
		t.Fatal(err)
	}
	want := Snapshot(&first)
	for name, value := range want {
		t.Setenv(name, value)
	}
	if err := Load(&second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, Snapshot(&second)); diff != "" {
		t.Errorf("snapshot (-first +second):\n%s", diff)
	}
	if got, want := want["FUSILLADE_NATS_URL"], "nats://a:1,nats://b"; got != want {
		t.Errorf("NATS servers %q, want %q", got, want)
	}
}

// A setting that has a new name is read under its former one for a release.
func TestLoadFormerName(t *testing.T) {
	var cfg Consumer
	setenv(t, database, broker, "FUSILLADE_MAX_DELIVERIES=7")
	if err := Load(&cfg); err != nil || cfg.MaxTakeovers != 7 {
		t.Errorf("read %d, %v", cfg.MaxTakeovers, err)
	}
	setenv(t, "FUSILLADE_MAX_DELIVERIES=0")
	assertRefused(t, Load(&cfg), "FUSILLADE_MAX_DELIVERIES", "out of range")
	setenv(t, "FUSILLADE_MAX_TAKEOVERS=5")
	assertRefused(t, Load(&cfg), "FUSILLADE_MAX_TAKEOVERS", "and FUSILLADE_MAX_DELIVERIES are both set: use one")
}

func TestLoadIgnoresNamesWithoutPrefix(t *testing.T) {
	setenv(t, "LOG_LEVEL=error", "TIMEOUT_MS=1", "DATABASE_URL=postgres://elsewhere/x", "UPSTREAM_API_KEY=k")
	var cfg Standalone
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Logging.Level.String() != "info" || cfg.Timeout.Duration() != 10*time.Minute ||
		cfg.Postgres.URL.IsSet() || cfg.Upstream.APIKey.IsSet() {
		t.Errorf("read a variable of another program: %v", Snapshot(&cfg))
	}
}

func TestLoadNATSNames(t *testing.T) {
	setenv(t, database, "NATS_URL=nats://short")
	var cfg Consumer
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if got := cfg.NATS.URL.Reveal(); got != "nats://short" {
		t.Errorf("server %q, want the one of NATS_URL", got)
	}
	setenv(t, "FUSILLADE_NATS_URL=nats://long")
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if got := cfg.NATS.URL.Reveal(); got != "nats://long" {
		t.Errorf("server %q, want the one of FUSILLADE_NATS_URL", got)
	}
}

func TestLoadRequires(t *testing.T) {
	want := []string{"FUSILLADE_DATABASE_URL", "FUSILLADE_NATS_URL"}
	for _, dst := range []Settings{new(Dispatcher), new(Consumer)} {
		if diff := cmp.Diff(want, variables(t, Load(dst))); diff != "" {
			t.Errorf("%T: bad variables (-want +got):\n%s", dst, diff)
		}
	}
}

func TestLoadSecretFiles(t *testing.T) {
	secrets := map[string]string{
		"DATABASE_URL":     "postgres://u:hunter2@db/x",
		"UPSTREAM_API_KEY": "sk-hunter2",
		"ENCRYPTION_KEY":   strings.Repeat("a1", 32),
		"NATS_URL":         "nats://u:hunter2@nats:4222",
	}
	for name, content := range secrets {
		t.Run(name, func(t *testing.T) {
			variable := "FUSILLADE_" + name + "_FILE"
			find := func(cfg *Standalone) setting {
				s, _ := (&problems{settings: settingsOf(cfg)}).find(name)
				return s
			}
			for _, end := range []string{"", "\n", "\r\n"} {
				t.Setenv(variable, writeFile(t, content+end))
				var cfg Standalone
				if err := Load(&cfg); err != nil {
					t.Fatal(err)
				}
				if s := find(&cfg); !s.value.Interface().(interface{ IsSet() bool }).IsSet() {
					t.Error("is not set")
				}
			}
			t.Run("both", func(t *testing.T) {
				t.Setenv("FUSILLADE_"+name, content)
				assertRefused(t, Load(new(Standalone)), "FUSILLADE_"+name, variable+" are both set")
			})
			t.Run("missing", func(t *testing.T) {
				t.Setenv(variable, t.TempDir()+"/missing")
				assertRefused(t, Load(new(Standalone)), "FUSILLADE_"+name, "no such file")
			})
			t.Run("empty", func(t *testing.T) {
				t.Setenv(variable, writeFile(t, "\n"))
				assertRefused(t, Load(new(Standalone)), "FUSILLADE_"+name, "is empty")
			})
			t.Run("large", func(t *testing.T) {
				t.Setenv(variable, writeFile(t, strings.Repeat("a", maxSecretFileBytes+1)))
				assertRefused(t, Load(new(Standalone)), "FUSILLADE_"+name, "is larger than 65536 bytes")
			})
			t.Run("bad", func(t *testing.T) {
				t.Setenv(variable, writeFile(t, "ftp://hunter2 \n"))
				assertRefused(t, Load(new(Standalone)), "FUSILLADE_"+name, "(allowed: ")
			})
		})
	}
	t.Run("only secrets", func(t *testing.T) {
		setenv(t, "FUSILLADE_TIMEOUT_MS_FILE=/x")
		assertRefused(t, Load(new(Standalone)), "FUSILLADE_TIMEOUT_MS_FILE", "is not a setting")
	})
}

func TestShouldRetryIsChecked(t *testing.T) {
	setenv(t, "FUSILLADE_SHOULD_RETRY=429,6xx")
	assertRefused(t, Load(new(Standalone)), "FUSILLADE_SHOULD_RETRY", `has the status class "6xx": want 1xx to 5xx (allowed: codes, classes and ranges`)
}

func TestValidate(t *testing.T) {
	var cfg Standalone
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if err := Validate(&cfg); err != nil {
		t.Errorf("what was loaded is not valid: %v", err)
	}
	cfg.DefaultModelConcurrency = 0
	cfg.Timeout = Milliseconds(time.Hour)
	want := []string{"FUSILLADE_DEFAULT_MODEL_CONCURRENCY", "FUSILLADE_PROCESSING_TIMEOUT_MS"}
	if diff := cmp.Diff(want, variables(t, Validate(&cfg))); diff != "" {
		t.Errorf("bad variables (-want +got):\n%s", diff)
	}
}

// A command may add settings of its own to a binary's.
func TestLoadEmbedded(t *testing.T) {
	type command struct {
		Standalone
		Port int `envconfig:"FUSILLADE_LISTEN_PORT" default:"8080" min:"1" max:"65535"`
	}
	setenv(t, "FUSILLADE_LISTEN_PORT=9000", "FUSILLADE_CLAIM_BATCH_SIZE=7")
	var cfg command
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Port != 9000 || cfg.ClaimBatchSize != 7 {
		t.Errorf("read %d and %d", cfg.Port, cfg.ClaimBatchSize)
	}
}

func TestLoadLeavesEnvironmentAlone(t *testing.T) {
	setenv(t, "FUSILLADE_UPSTREAM_API_KEY_FILE="+writeFile(t, "sk-hunter2"))
	before := os.Environ()
	if err := Load(new(Standalone)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, os.Environ()); diff != "" {
		t.Errorf("environment (-before +after):\n%s", diff)
	}
}

// A line end behind a key, as of a file or of Windows, is no part of it.
func TestSecretEndsWithItsLine(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"", "\n", "\r\n", "\n\n"} {
		var s Secret
		if err := s.Set("sk-hunter2" + end); err != nil || s.Reveal() != "sk-hunter2" {
			t.Errorf("%q: %q, %v", end, s.Reveal(), err)
		}
	}
	var s Secret
	if err := s.Set("sk-\nhunter2"); err == nil {
		t.Error("a line end within a key is taken")
	}
}
