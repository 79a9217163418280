package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/slots"
	"fusillade/streams"
)

type modelsCmd struct {
	Ls  modelsLsCmd  `cmd:"" help:"List the models with their limits and the slots that are held."`
	Set modelsSetCmd `cmd:"" help:"Set a model's limit, in force in the whole cluster within a second."`
}

type modelsSetCmd struct {
	Model string `arg:"" placeholder:"MODEL"`
	Limit int    `required:"" placeholder:"N" help:"Calls in flight, in the whole cluster; 0: as the dispatchers' environment says."`
}

// Run writes the limit to Postgres, then wakes the dispatchers. A crash
// between the two costs one claim interval.
func (c *modelsSetCmd) Run(ctx context.Context, t *terminal) error {
	if c.Limit < 0 {
		return usage(errors.New("--limit must not be negative"))
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Store.SetModelLimit(ctx, batch.Model(c.Model), c.Limit); err != nil {
		return err
	}
	hintWork(r.Conn)
	return nil
}

type modelsLsCmd struct{}

func (modelsLsCmd) Run(ctx context.Context, t *terminal) error {
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	limits, err := r.Store.ModelLimits(ctx)
	if err != nil {
		return err
	}
	js, err := jetstream.New(r.Conn)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, streams.SlotsBucket)
	if err != nil {
		return err
	}
	entries, err := slots.List(ctx, kv)
	if err != nil {
		return err
	}
	for model, limit := range limits {
		if _, ok := entries[model]; !ok {
			entries[model] = slots.Entry{Model: model, Limit: limit}
		}
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tLIMIT\tHELD\tDAEMONS")
	for _, model := range slices.Sorted(maps.Keys(entries)) {
		e := entries[model]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", model, e.Limit, e.Held(), len(e.Holders))
	}
	return w.Flush()
}
