package consume

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"
	manner "fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
)

// sendPriority has calls tell the endpoint how urgent they are, or not.
func sendPriority(s manner.Switch) func(*Config) {
	return func(cfg *Config) {
		resolve := cfg.Resolve
		cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
			to, ok := resolve(m)
			to.Options = &manner.Options{SendPriority: s}
			return to, ok
		}
	}
}

// slowAnswers has less time remain than there is, as an answer that took long to
// come, or a clock that was set back.
type slowAnswers struct{ store }

func (s slowAnswers) Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error) {
	starts, err := s.store.Start(ctx, rules, deliveries)
	for i := range starts {
		starts[i].Remaining -= 5 * time.Second
	}
	return starts, err
}

// An engine is sent the deadline of the batch, the same from every consumer and
// with every attempt, whatever the lines themselves say.
func TestDeadlineIsThePriority(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for range 2 {
		c.start(sendPriority(manner.On), func(cfg *Config) { cfg.Store = slowAnswers{cfg.Store} })
	}
	jumping := lines(20, testModel)
	for i := range jumping {
		jumping[i].CustomID = "late-" + jumping[i].CustomID
		jumping[i].Body = []byte(`{"priority":-1000,"model":"` + testModel + `","messages":[{"role":"user","content":"x"}],"priority":-1000}`)
	}
	late := c.Begin(jumping, window(100*time.Hour))
	soon := c.Begin(lines(20, testModel), window(time.Hour))
	c.AwaitEnd(late)
	c.AwaitEnd(soon)
	want := map[bool]int64{true: c.Batch(late).ExpiresAt.Unix(), false: c.Batch(soon).ExpiresAt.Unix()}
	if want[false] >= want[true] {
		t.Fatalf("the deadlines are %v", want)
	}
	calls := c.endpoint.all()
	for _, call := range calls {
		var got struct{ Priority int64 }
		if err := json.Unmarshal(call.body, &got); err != nil {
			t.Fatal(err)
		}
		if isLate := strings.HasPrefix(call.customID, "late-"); got.Priority != want[isLate] {
			t.Errorf("%s was sent %s, want the priority %d", call.customID, call.body, want[isLate])
		}
	}
	if len(calls) != 40 {
		t.Errorf("there were %d calls", len(calls))
	}
}

// Else every byte is sent as the line has it.
func TestNoPriorityIsSentUnasked(t *testing.T) {
	t.Parallel()
	for _, s := range []manner.Switch{"", manner.Off} {
		c := newCluster(t)
		c.start(sendPriority(s))
		batches := lines(2, testModel)
		batches[1].Body = []byte(`{"priority": 3,"model":"` + testModel + `","messages":[]}`)
		c.AwaitEnd(c.Begin(batches))
		for i := range batches {
			if calls := c.endpoint.of(batches[i].CustomID); len(calls) != 1 || string(calls[0].body) != string(batches[i].Body) {
				t.Errorf("%q: %d calls, want one with %s", s, len(calls), batches[i].Body)
			}
		}
	}
}
