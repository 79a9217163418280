package streams_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/testenv"
	"fusillade/streams"
)

func TestEnsureReplicas(t *testing.T) {
	t.Parallel()
	servers := testenv.NATSCluster(t)
	js, err := jetstream.New(testenv.Connect(t, servers[0]), jetstream.WithDefaultTimeout(testenv.Patience))
	if err != nil {
		t.Fatal(err)
	}
	subject := streams.Shard(0).RequestSubject("m", requestID(t, 1))
	for i, replicas := range []int{1, 3, 1} {
		c := streams.Config{Replicas: replicas, Shards: 2, StaleDaemonThreshold: 30 * time.Second}
		// Daemons begin at one time.
		var g errgroup.Group
		for range 3 {
			g.Go(func() error { return streams.Ensure(t.Context(), js, c) })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, name := range c.StreamNames() {
			testenv.Eventually(t, name+" has its copies", func() bool {
				stream, err := js.Stream(t.Context(), name)
				if err != nil {
					return false
				}
				info := stream.CachedInfo()
				return info.Config.Replicas == replicas && info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == replicas-1
			})
		}
		if i == 0 {
			if _, err := js.Publish(t.Context(), subject, nil); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := js.Stream(t.Context(), streams.Stream)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "the message is there", func() bool {
			_, err := stream.GetLastMsgForSubject(t.Context(), subject)
			return err == nil
		})
	}
}

func TestPlacement(t *testing.T) {
	t.Parallel()
	c := streams.Config{PlacementTags: []string{"az:1"}}
	for name, got := range map[string]*jetstream.Placement{
		"stream": c.StreamConfig(0).Placement, "daemons": c.DaemonsConfig().Placement, "slots": c.SlotsConfig().Placement,
		"holds": c.HoldsConfig().Placement, "rates": c.RatesConfig().Placement,
	} {
		if got == nil || !slices.Equal(got.Tags, c.PlacementTags) {
			t.Errorf("%s is placed at %+v, want %v", name, got, c.PlacementTags)
		}
	}
	if got := (streams.Config{}).StreamConfig(0).Placement; got != nil {
		t.Errorf("placed at %+v without tags", got)
	}
}

func TestEnsureRefusesReplicas(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		js       func(*testing.T) jetstream.JetStream
		replicas int
		want     error
	}{
		"one server": {js: connect, replicas: 3, want: streams.ErrReplicas},
		"three servers": {replicas: 5, want: streams.ErrTooFewServers, js: func(t *testing.T) jetstream.JetStream {
			js, err := jetstream.New(testenv.Connect(t, testenv.NATSCluster(t)[0]))
			if err != nil {
				t.Fatal(err)
			}
			return js
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := streams.Ensure(t.Context(), tc.js(t), streams.Config{Replicas: tc.replicas, StaleDaemonThreshold: time.Minute})
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "FUSILLADE_STREAM_REPLICAS") {
				t.Errorf("Ensure = %v, want %v and the setting's name", err, tc.want)
			}
		})
	}
}
