package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

func connect(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(testenv.Connect(t, testenv.NATS(t)), jetstream.WithDefaultTimeout(testenv.Patience))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func ensure(t *testing.T, js jetstream.JetStream, c streams.Config) jetstream.Stream {
	t.Helper()
	if err := streams.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), streams.Stream)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// A stream carries more models than the server's default, beyond which a new one
// would be refused for ever.
func TestModelsOfAStream(t *testing.T) {
	t.Parallel()
	const models = 1_100
	stream := ensure(t, connect(t), streams.Config{InMemory: true, StaleDaemonThreshold: 30 * time.Second})
	for i := range models {
		config := streams.Shard(0).ConsumerConfig(batch.Model(fmt.Sprint("model-", i)), 1, time.Minute)
		if _, err := streams.EnsureConsumer(t.Context(), stream, config); err != nil {
			t.Fatalf("model %d: %v", i+1, err)
		}
	}
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	js := connect(t)
	ensure(t, js, streams.Config{StaleDaemonThreshold: 30 * time.Second})
	id := requestID(t, 1)
	if _, err := js.Publish(t.Context(), streams.Shard(0).RequestSubject("m", id), nil); err != nil {
		t.Fatal(err)
	}
	// Again, and with another threshold: nothing is lost.
	stream := ensure(t, js, streams.Config{StaleDaemonThreshold: 30 * time.Second})
	ensure(t, js, streams.Config{StaleDaemonThreshold: 400 * time.Millisecond})
	if _, err := stream.GetLastMsgForSubject(t.Context(), streams.Shard(0).RequestSubject("m", id)); err != nil {
		t.Errorf("the message is gone: %v", err)
	}
	for _, bucket := range []string{streams.DaemonsBucket, streams.SlotsBucket, streams.HoldsBucket} {
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		status, err := kv.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := time.Duration(0)
		if bucket == streams.DaemonsBucket {
			want = 400 * time.Millisecond
		}
		if bucket == streams.HoldsBucket {
			want = 25 * time.Hour
		}
		if status.TTL() != want || status.BackingStore() != "JetStream" {
			t.Errorf("bucket %s keeps keys for %v, want %v", bucket, status.TTL(), want)
		}
	}
}

func TestStreamKeepsOneMessagePerSubject(t *testing.T) {
	t.Parallel()
	js := connect(t)
	stream := ensure(t, js, streams.Config{StaleDaemonThreshold: 30 * time.Second})
	subject := streams.Shard(0).RequestSubject("m", requestID(t, 1))
	publish := func() error {
		_, err := js.Publish(t.Context(), subject, nil)
		return err
	}
	refused := func(when string) {
		t.Helper()
		var api *jetstream.APIError
		if err := publish(); !errors.As(err, &api) || api.ErrorCode != 10077 {
			t.Errorf("a second message %s = %v, want error code 10077", when, err)
		}
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	refused("while one is queued")
	consumer, err := stream.CreateOrUpdateConsumer(t.Context(), streams.Shard(0).ConsumerConfig("m", 1, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	refused("while one is in flight")
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := publish(); err != nil {
		t.Errorf("a message after the first was acked = %v", err)
	}
	if _, err := js.Publish(t.Context(), streams.Shard(0).RequestSubject("m", requestID(t, 2)), nil); err != nil {
		t.Errorf("a message of another request = %v", err)
	}
}

// A consumer of an earlier release keeps its state in a file, and can be brought up
// to date all the same.
func TestConsumerOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	js := connect(t)
	stream := ensure(t, js, streams.Config{StaleDaemonThreshold: 30 * time.Second})
	before := streams.Shard(0).ConsumerConfig("m", 10, time.Minute)
	before.MemoryStorage = false
	if _, err := stream.CreateOrUpdateConsumer(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	consumer, err := streams.EnsureConsumer(t.Context(), stream, streams.Shard(0).ConsumerConfig("m", 20, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if got := consumer.CachedInfo().Config; got.MemoryStorage || got.MaxAckPending != streams.MaxAckPending(20) {
		t.Errorf("the consumer is %+v", got)
	}
	if err := stream.DeleteConsumer(t.Context(), streams.ConsumerName("m")); err != nil {
		t.Fatal(err)
	}
	consumer, err = streams.EnsureConsumer(t.Context(), stream, streams.Shard(0).ConsumerConfig("m", 20, time.Minute))
	if err != nil || !consumer.CachedInfo().Config.MemoryStorage {
		t.Errorf("a consumer that is new: %v", err)
	}
}

func TestConsumerConfig(t *testing.T) {
	t.Parallel()
	js := connect(t)
	stream := ensure(t, js, streams.Config{StaleDaemonThreshold: 30 * time.Second})
	odd := batch.Model(strings.Repeat("*>./\\ =:\"'\t\u00e9\U0001f680\u2028", 20))
	models := []batch.Model{
		"gpt-4", "gpt-4.1", "meta-llama/Llama-3.1:8b instruct", odd[:250] + "\u00e9\u00e9\u00e9", batch.Model(strings.Repeat("/", 256)), "*", ">",
	}
	for i, model := range models {
		cfg := streams.Shard(0).ConsumerConfig(model, 10, 30*time.Second)
		consumer, err := stream.CreateOrUpdateConsumer(t.Context(), cfg)
		if err != nil {
			t.Errorf("model %q: %v", model, err)
			continue
		}
		got := consumer.CachedInfo().Config
		if got.MaxDeliver != -1 || got.MaxWaiting != 8192 || got.MaxAckPending != 1064 || got.AckWait != 30*time.Second {
			t.Errorf("model %q: MaxDeliver %d, MaxWaiting %d, MaxAckPending %d, AckWait %v",
				model, got.MaxDeliver, got.MaxWaiting, got.MaxAckPending, got.AckWait)
		}
		if got.Description != string(model) || got.Metadata["model"] != string(model) {
			t.Errorf("model %q is described as %q, %q", model, got.Description, got.Metadata["model"])
		}
		// A changed limit is an update, not another consumer.
		updated, err := stream.CreateOrUpdateConsumer(t.Context(), streams.Shard(0).ConsumerConfig(model, 20, 30*time.Second))
		if err != nil || updated.CachedInfo().Config.MaxAckPending != streams.MaxAckPending(20) {
			t.Errorf("model %q with another limit: %v", model, err)
		}
		if _, err := js.Publish(t.Context(), streams.Shard(0).RequestSubject(model, requestID(t, int32(i+1))), nil); err != nil {
			t.Errorf("model %q: %v", model, err)
			continue
		}
		msg, err := consumer.Next()
		if err != nil {
			t.Errorf("model %q: %v", model, err)
			continue
		}
		if m, id, err := streams.ParseRequestSubject(msg.Subject()); err != nil || m != model || id != requestID(t, int32(i+1)) {
			t.Errorf("model %q got the message of %q, %v, %v", model, m, id, err)
		}
		if err := msg.Ack(); err != nil {
			t.Error(err)
		}
	}
	if n := stream.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("the stream had %d consumers before", n)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Consumers != len(models) {
		t.Errorf("%d consumers for %d models", info.State.Consumers, len(models))
	}
}

// A batch is cancelled by purging its messages, whatever their model.
func TestBatchSubjectsPurge(t *testing.T) {
	t.Parallel()
	js := connect(t)
	stream := ensure(t, js, streams.Config{StaleDaemonThreshold: 30 * time.Second})
	cancelled, other := requestID(t, 1), requestID(t, 1)
	other.Batch[0]++
	for _, subject := range []string{
		streams.Shard(0).RequestSubject("a", cancelled), streams.Shard(0).RequestSubject("b.c", cancelled), streams.Shard(0).RequestSubject("a", other),
	} {
		if _, err := js.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(streams.Shard(0).BatchSubjects(cancelled.Batch))); err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 1 {
		t.Errorf("%d messages are left, want 1", info.State.Msgs)
	}
	if _, err := stream.GetLastMsgForSubject(t.Context(), streams.Shard(0).RequestSubject("a", other)); err != nil {
		t.Errorf("another batch's message is gone: %v", err)
	}
}

func TestMaxAckPending(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1, 10, 100_000} {
		// 0 would mean the server's default.
		if got := streams.MaxAckPending(limit); got <= limit {
			t.Errorf("MaxAckPending(%d) = %d", limit, got)
		}
	}
}
