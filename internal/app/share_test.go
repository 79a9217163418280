package app

import (
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

func (c *cluster) change(model batch.Model, change postgres.ModelChange) {
	c.T.Helper()
	if err := c.Store.ChangeModel(c.T.Context(), model, change); err != nil {
		c.T.Fatal(err)
	}
	if err := c.Conn.Publish(streams.HintWork, nil); err != nil {
		c.T.Fatal(err)
	}
}

// Users get their parts of a model through the whole pipeline, with several
// dispatchers, from the moment at which it is resumed.
func TestUsersShareAModel(t *testing.T) {
	t.Parallel()
	const lines = 1200
	c := newCluster(t, mock.Settings{Latency: "uniform:1ms-5ms"})
	c.slowFallbacks()
	c.settings.DefaultModelConcurrency = 8
	yes, no := true, false
	c.change("m", postgres.ModelChange{Paused: &yes})
	if err := c.Store.SetOwnerWeight(t.Context(), "bob", 3); err != nil {
		t.Fatal(err)
	}
	alice := c.begin("r", lines, "m") // by tester, of weight 1
	bob := c.beginAs("bob", "r", lines, "m")
	for range 2 {
		c.start("dispatcher")
		c.start("consumer")
	}
	c.change("m", postgres.ModelChange{Paused: &no})
	c.awaitDone(bob, lines/2)
	// Read in this order, alice has had a little more time than bob.
	b, a := c.Batch(bob).Counts.Done(), c.Batch(alice).Counts.Done()
	if share := float64(b) / float64(a+b); share < 0.68 || share > 0.82 {
		t.Errorf("bob got %.2f of all, want 0.75: %d and %d", share, b, a)
	}
	c.awaitPromptEnd(bob)
	c.awaitPromptEnd(alice)
}

// Near its deadline a batch goes to another model, whose limit holds for all
// that it is given.
func TestEscalation(t *testing.T) {
	t.Parallel()
	const lines = 300
	c := newCluster(t, mock.Settings{Latency: "uniform:1ms-5ms", Ceilings: "slow=2,quick=4", Errors: "503=0.05"})
	c.slowFallbacks()
	c.settings.DefaultModelConcurrency = 4
	c.set(&c.settings.ModelConcurrencyLimits, "slow=2")
	c.set(&c.settings.ModelEscalations, "slow=quick@1h")
	for range 2 {
		c.start("dispatcher", func(*config.Standalone) {})
		c.start("consumer")
	}
	first := c.begin("a", lines, "slow", "quick")
	c.awaitDone(first, lines/4)
	if n := c.endpoint.Stats().Models["slow"].Calls; n == 0 {
		t.Error("no call of the model itself while there was time")
	}
	if _, err := c.DB.Exec(t.Context(), `UPDATE batches SET expires_at = now() + interval '10 min'`); err != nil {
		t.Fatal(err)
	}
	c.awaitPromptEnd(first)
	second := c.begin("b", lines, "slow", "quick")
	if _, err := c.DB.Exec(t.Context(), `UPDATE batches SET expires_at = now() + interval '10 min'`); err != nil {
		t.Fatal(err)
	}
	c.awaitPromptEnd(second)
	stats := c.endpoint.Stats().Models
	if stats["quick"].Calls < lines {
		t.Errorf("%d calls of the escalation model, want more than the %d lines that name it", stats["quick"].Calls, lines)
	}
	for model, s := range stats {
		if s.CeilingViolations > 0 {
			t.Errorf("%s: %d calls beyond its limit", model, s.CeilingViolations)
		}
	}
}
