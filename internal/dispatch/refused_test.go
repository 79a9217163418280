package dispatch

import (
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// Whatever a batch holds, its headers stay far below what the broker takes, so
// that its requests are published.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	many := make(map[string]string)
	for _, key := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		many[key] = strings.Repeat("\u00e9", 4000)
	}
	fields := append([]string{"completion_window", "metadata"}, strings.Split("abcdefghijklmnopqrstuvwxyz", "")...)
	c.start(func(cfg *Config) { cfg.MetadataFields = fields })
	c.Begin(lines(3, testModel), func(n *postgres.NewBatch) {
		n.WindowText, n.Metadata = "1h"+strings.Repeat("0h", 35_000), many
	})
	c.Begin(lines(2, testModel))
	taken := 0
	until(t, "all are published", func() bool {
		for _, msg := range c.take(testModel, 5) {
			taken++
			size := 0
			for name, values := range msg.Headers() {
				size += len(name) + len(values[0])
				if len(values[0]) > maxHeaderValue || strings.ToValidUTF8(values[0], "?") != values[0] {
					t.Errorf("%s has %d bytes, or part of a character", name, len(values[0]))
				}
			}
			if size > maxHeaders+1024 {
				t.Errorf("headers are of %d bytes", size)
			}
		}
		return taken == 5
	})
}

// What the broker refuses for what a message holds fails, with a reason, and the
// others of its model go on.
func TestRefusedContentFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	info, err := c.Stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info.Config.MaxMsgSize = 1500
	if _, err := c.JS.UpdateStream(t.Context(), info.Config); err != nil {
		t.Fatal(err)
	}
	daemon := c.daemon()
	c.start(func(cfg *Config) {
		cfg.MetadataFields, cfg.Daemon, cfg.StaleThreshold = []string{"note"}, daemon, time.Hour
	})
	refused := c.Begin(lines(3, testModel), func(n *postgres.NewBatch) {
		n.Metadata = map[string]string{"note": strings.Repeat("x", 2000)}
	})
	other := c.Begin(lines(2, testModel))
	until(t, "the batch has finished", func() bool { return c.get(refused).Status.Terminal() })
	if b := c.get(refused); b.Status != batch.StatusFailed || b.Counts.Failed != 3 {
		t.Errorf("the batch is %s with %+v", b.Status, b.Counts)
	}
	if n := c.Count(`SELECT count(*) FROM results WHERE reason = 'builder_error' AND detail LIKE '%too large%'`); n != 3 {
		t.Errorf("%d results say why", n)
	}
	until(t, "the others are published", func() bool { return len(c.take(testModel, 1)) == 1 })
	if b := c.get(other); b.Counts.Failed != 0 {
		t.Errorf("of the other batch %+v", b.Counts)
	}
}

// A request that is refused again and again is tried less and less often.
func TestReleasePauseGrows(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d, stop := c.start()
	stop()
	id := c.Begin(lines(4, testModel))
	claimed, err := c.Store.Claim(t.Context(), testModel, []postgres.Quota{{Batch: id, N: 4}})
	if err != nil {
		t.Fatal(err)
	}
	for i, claims := range []int{1, 2, 5, 1000} {
		claimed[i].Claim = claims
		c.Exec(`UPDATE requests SET claim = $2 WHERE line = $1`, claimed[i].ID.Line, claims)
	}
	newLane(d, testModel).release(t.Context(), claimed)
	for i, want := range []int{1, 2, 16, 60} {
		n := c.Count(`SELECT count(*) FROM requests WHERE line = $1 AND due_at - now() BETWEEN $2 * interval '1 s' - interval '10 s' AND $2 * interval '1 s'`,
			claimed[i].ID.Line, want)
		if n != 1 {
			t.Errorf("a request of claim %d is not due in %d s", claimed[i].Claim, want)
		}
	}
}
