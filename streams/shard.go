package streams

import (
	"hash/fnv"
	"strconv"
	"strings"

	"fusillade/internal/batch"
)

// Shards is how many streams share the models' messages: REQUESTS, REQUESTS_1,
// REQUESTS_2 … Each model is on one of them. What a message costs the broker grows
// with the consumers of its stream, so that one stream carries a few hundred
// models with work at once, and eight carry thousands. The zero value is 1.
//
// The number may change. A model whose stream is another one then has messages on
// the one before; the leading dispatcher removes them and releases their
// requests, which are published where they now belong.
type Shards int

// Shard is one of the streams; 0 is REQUESTS.
type Shard int

// Of is the shard of a model.
func (n Shards) Of(m batch.Model) Shard {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(m)) // never fails
	return Shard(h.Sum32() % uint32(n))
}

// All lists the shards.
func (n Shards) All() []Shard {
	all := make([]Shard, max(n, 1))
	for i := range all {
		all[i] = Shard(i)
	}
	return all
}

// Stream is the name of the shard's stream.
func (s Shard) Stream() string {
	if s == 0 {
		return Stream
	}
	return Stream + "_" + strconv.Itoa(int(s))
}

// ParseShard is the shard of a stream's name; false: it has another purpose.
func ParseShard(stream string) (Shard, bool) {
	if stream == Stream {
		return 0, true
	}
	number, ok := strings.CutPrefix(stream, Stream+"_")
	n, err := strconv.Atoi(number)
	return Shard(n), ok && err == nil && n > 0 && Shard(n).Stream() == stream
}

// prefix begins the subjects of the shard's messages: fusillade.requests. of
// shard 0, and fusillade.requests_1. and so on of the others.
func (s Shard) prefix() string {
	if s == 0 {
		return requestsPrefix + "."
	}
	return requestsPrefix + "_" + strconv.Itoa(int(s)) + "."
}

// RequestSubject is where the message of one claimed request is published.
func (s Shard) RequestSubject(m batch.Model, id batch.RequestID) string {
	return s.prefix() + Token(m) + "." + id.Batch.Token() + "." + strconv.Itoa(int(id.Line))
}

// ModelSubjects matches the messages of one model.
func (s Shard) ModelSubjects(m batch.Model) string { return s.prefix() + Token(m) + ".>" }

// BatchSubjects matches the messages of one batch, of whatever model.
func (s Shard) BatchSubjects(id batch.ID) string { return s.prefix() + "*." + id.Token() + ".*" }

// LineSubjects matches the messages of one request, of whatever model.
func (s Shard) LineSubjects(id batch.RequestID) string {
	return s.prefix() + "*." + id.Batch.Token() + "." + strconv.Itoa(int(id.Line))
}
