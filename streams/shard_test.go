package streams_test

import (
	"fmt"
	"testing"

	"fusillade/internal/batch"
	"fusillade/streams"
)

func TestShards(t *testing.T) {
	t.Parallel()
	const models, shards = 4000, 8
	id := requestID(t, 7)
	seen := make(map[streams.Shard]int)
	for i := range models {
		m := batch.Model(fmt.Sprintf("model-%d", i))
		shard := streams.Shards(shards).Of(m)
		seen[shard]++
		if shard != streams.Shards(shards).Of(m) || streams.Shards(0).Of(m) != 0 || streams.Shards(1).Of(m) != 0 {
			t.Fatalf("model %q has no shard of its own", m)
		}
		subject := shard.RequestSubject(m, id)
		if got, gotID, err := streams.ParseRequestSubject(subject); err != nil || got != m || gotID != id {
			t.Fatalf("ParseRequestSubject(%q) = %q, %v, %v", subject, got, gotID, err)
		}
		if s, ok := streams.ParseShard(shard.Stream()); !ok || s != shard {
			t.Fatalf("ParseShard(%q) = %v, %v", shard.Stream(), s, ok)
		}
	}
	for shard, n := range seen {
		if n < models/shards*3/4 || n > models/shards*5/4 {
			t.Errorf("%s has %d of %d models", shard.Stream(), n, models)
		}
	}
	// The first is as it was when there was one.
	if got := streams.Shard(0).Stream(); got != "REQUESTS" {
		t.Errorf("the stream of shard 0 is %q", got)
	}
	if got, want := streams.Shard(3).ModelSubjects("m"), "fusillade.requests_3.m.>"; got != want {
		t.Errorf("subjects of shard 3 are %q, want %q", got, want)
	}
	for _, name := range []string{"", "KV_SLOTS", "REQUESTS_", "REQUESTS_0", "REQUESTS_01", "REQUESTS_x", "requests"} {
		if s, ok := streams.ParseShard(name); ok {
			t.Errorf("ParseShard(%q) = %v", name, s)
		}
	}
}
