package testcluster

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// Owner is whose batches Begin makes if no setting says otherwise.
const Owner = "tester"

// Line is a request of a test's file. Its body is not compact, and holds the
// custom id.
func Line(customID string, model batch.Model) batch.Template {
	return batch.Template{
		CustomID: customID, Model: model, Method: "POST", Path: "/v1/chat/completions",
		Body: fmt.Appendf(nil, `{"model": %q,  "prompt":%q}`, model, customID),
	}
}

// Lines are n requests with custom ids r0, r1, …, whose models take turns.
func Lines(n int, models ...batch.Model) []batch.Template {
	out := make([]batch.Template, n)
	for i := range out {
		out[i] = Line("r"+strconv.Itoa(i), models[i%len(models)])
	}
	return out
}

// Begin stores the lines as a file, begins a batch of it and gives the hint that
// there is work.
func (c *Cluster) Begin(lines []batch.Template, settings ...func(*postgres.NewBatch)) batch.ID {
	c.T.Helper()
	n := postgres.NewBatch{CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: Owner}
	for _, set := range settings {
		set(&n)
	}
	n.File = c.File(lines, n.CreatedBy)
	id, _, err := c.Store.CreateBatch(c.T.Context(), n)
	if err != nil {
		c.T.Fatal(err)
	}
	c.Hint(streams.HintWork)
	return id
}

// File stores the lines, which it numbers, as a file of the owner.
func (c *Cluster) File(lines []batch.Template, owner string) batch.FileID {
	c.T.Helper()
	ctx := c.T.Context()
	file, err := c.Store.CreateFile(ctx, "requests.jsonl", owner)
	if err != nil {
		c.T.Fatal(err)
	}
	if err := c.Store.CopyTemplates(ctx, file, number(lines)); err != nil {
		c.T.Fatal(err)
	}
	if err := c.Store.FinishFile(ctx, file, summarize(lines)); err != nil {
		c.T.Fatal(err)
	}
	return file
}

func number(lines []batch.Template) []batch.Template {
	for i := range lines {
		lines[i].Line = int32(i + 1)
	}
	return lines
}

func summarize(lines []batch.Template) batch.FileSummary {
	summary := batch.FileSummary{Requests: len(lines), Endpoint: "/v1/chat/completions"}
	hash, demand := sha256.New(), make(map[batch.Model]batch.ModelDemand)
	for _, l := range lines {
		hash.Write(l.Body)
		m := demand[l.Model]
		demand[l.Model] = batch.ModelDemand{Model: l.Model, Requests: m.Requests + 1, Bytes: m.Bytes + int64(len(l.Body))}
	}
	for _, m := range demand {
		summary.Models = append(summary.Models, m)
		summary.Bytes += m.Bytes
	}
	summary.SHA256 = [32]byte(hash.Sum(nil))
	return summary
}

// Batch reads a batch.
func (c *Cluster) Batch(id batch.ID) postgres.Batch {
	c.T.Helper()
	b, err := c.Store.GetBatch(c.T.Context(), id, nil)
	if err != nil {
		c.T.Fatal(err)
	}
	return b
}

// AwaitStatus returns a batch once it has finished. However slow the machine is,
// it waits as long as requests finish.
func (c *Cluster) AwaitStatus(id batch.ID) postgres.Batch {
	c.T.Helper()
	var b postgres.Batch
	testenv.Steadily(c.T, "the batch has finished", func() (int64, bool) {
		b = c.Batch(id)
		return b.Counts.Done(), b.Status.Terminal()
	})
	return b
}

// AwaitEnd returns the results of a batch by custom id, once it has finished.
func (c *Cluster) AwaitEnd(id batch.ID) map[string]batch.Result {
	c.T.Helper()
	c.AwaitStatus(id)
	results := make(map[string]batch.Result)
	for {
		page, err := c.Store.Results(c.T.Context(), id, int64(len(results)), 1000)
		if err != nil {
			c.T.Fatal(err)
		}
		for _, r := range page {
			results[r.CustomID] = r
		}
		if len(page) == 0 {
			return results
		}
	}
}
