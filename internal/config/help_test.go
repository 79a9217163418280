package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// specified are the variables that the specification has.
var specified = strings.Fields(`
	CLAIM_BATCH_SIZE DEFAULT_MODEL_CONCURRENCY MODEL_CONCURRENCY_LIMITS MODEL_ESCALATIONS CLAIM_INTERVAL_MS
	MAX_RETRIES STOP_BEFORE_DEADLINE_MS BACKOFF_MS BACKOFF_FACTOR MAX_BACKOFF_MS TIMEOUT_MS STATUS_LOG_INTERVAL_MS
	HEARTBEAT_INTERVAL_MS SHOULD_RETRY CLAIM_TIMEOUT_MS PROCESSING_TIMEOUT_MS STALE_DAEMON_THRESHOLD_MS
	UNCLAIM_BATCH_SIZE CANCELLATION_POLL_INTERVAL_MS BATCH_METADATA_FIELDS PURGE_INTERVAL_MS PURGE_BATCH_SIZE
	MODEL_IDLE_MS PURGE_THROTTLE_MS

	MAX_IN_FLIGHT MAX_TAKEOVERS UPSTREAM_URL UPSTREAM_API_KEY MODEL_UPSTREAMS UPSTREAM_PROXY WEBHOOK_ALLOW_PRIVATE LISTEN_ADDR API_AUTH
	MAX_ACTIVE_BATCHES MAX_QUEUED_REQUESTS MAX_FILE_REQUESTS MAX_FILE_BYTES MAX_REQUEST_BYTES MAX_UPLOADS
	MAX_UPLOADS_PER_OWNER MAX_DOWNLOADS_PER_OWNER MAX_EVENT_STREAMS_PER_OWNER
	MAX_MODELS_PER_OWNER MAX_MODELS MODELS_ALLOWED UPLOAD_TIMEOUT_MS API_HOSTS ENCRYPTION_KEY DATABASE_URL
	DATABASE_MAX_CONNS NATS_URL NATS_CREDS NATS_NKEY NATS_CERT NATS_KEY NATS_CA STREAM_SHARDS STREAM_REPLICAS STREAM_PLACEMENT_TAGS DRAIN_TIMEOUT_MS
	ADMIN_ADDR LOG_LEVEL LOG_FORMAT`)

func TestWriteHelp(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := WriteHelp(&out, new(Standalone)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	column := strings.Index(lines[0], "DESCRIPTION")
	var names []string
	for _, line := range lines[1:] {
		names = append(names, strings.TrimPrefix(strings.Fields(line)[0], "FUSILLADE_"))
		if line[column-1] != ' ' || line[column] == ' ' {
			t.Errorf("line is not aligned: %q", line)
		}
	}
	for _, name := range specified {
		if !slices.Contains(names, name) {
			t.Errorf("the help lacks %s", name)
		}
	}
}

// What the tags say about a setting is complete and consistent.
func TestTags(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	everyFieldIsASetting(t, reflect.TypeFor[Standalone]())
	for _, s := range settingsOf(new(Standalone)) {
		otel := strings.HasPrefix(s.name, otelPrefix)
		if !otel && !strings.HasPrefix(s.tag.Get("envconfig"), prefix+"_") {
			t.Errorf("%s lacks the prefix, so that a variable of another program would be read", s.name)
		}
		if seen[s.name] {
			t.Errorf("%s is declared twice", s.name)
		}
		seen[s.name] = true
		if desc := s.tag.Get("desc"); desc == "" || strings.HasSuffix(desc, ".") {
			t.Errorf("%s: description %q", s.name, desc)
		}
		_, number := s.number()
		if otel { // whose values are looked at only where they count
			if s.tag.Get("allowed") == "" {
				t.Errorf("%s does not say what is allowed", s.name)
			}
			continue
		}
		if number != (s.tag.Get("unit") != "") || number != (s.tag.Get("min") != "") || number == (s.tag.Get("allowed") != "") {
			t.Errorf("%s: a number has a unit and a range, anything else says what is allowed", s.name)
		}
		if ms := s.tag.Get("unit") == "ms"; ms != strings.HasSuffix(s.name, "_MS") {
			t.Errorf("%s: unit %q", s.name, s.tag.Get("unit"))
		}
	}
}

// everyFieldIsASetting finds fields without a tag, which envconfig would read
// from variables without our prefix.
func everyFieldIsASetting(t *testing.T, section reflect.Type) {
	t.Helper()
	for i := range section.NumField() {
		field := section.Field(i)
		if _, ok := field.Tag.Lookup("envconfig"); ok {
			continue
		}
		if !field.Anonymous {
			t.Errorf("%s.%s has no envconfig tag", section, field.Name)
			continue
		}
		everyFieldIsASetting(t, field.Type)
	}
}

func TestReplaceMarkdown(t *testing.T) {
	t.Parallel()
	stale := "# Title\n\n" + MarkdownBegin + "\nold\n" + MarkdownEnd + "\n\nMore.\n"
	fresh, err := ReplaceMarkdown(stale, new(Dispatcher))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Title\n\n" + MarkdownBegin + "\n| variable |",
		"| `FUSILLADE_PROCESSING_TIMEOUT_MS` | TIMEOUT_MS + 60000 | ms | ",
		"| `FUSILLADE_NATS_URL` | required |",
		"|\n" + MarkdownEnd + "\n\nMore.\n",
	} {
		if !strings.Contains(fresh, want) {
			t.Errorf("lacks %q:\n%s", want, fresh)
		}
	}
	if again, err := ReplaceMarkdown(fresh, new(Dispatcher)); err != nil || again != fresh {
		t.Errorf("a fresh document is changed (error %v):\n%s", err, cmp.Diff(fresh, again))
	}
	for _, document := range []string{"", MarkdownBegin + "\n", MarkdownEnd + MarkdownBegin + "\n"} {
		if _, err := ReplaceMarkdown(document, new(Dispatcher)); err == nil {
			t.Errorf("%q has no place for the table, and no error", document)
		}
	}
}
