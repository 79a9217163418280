package pipeline

import (
	"context"
	"sync"

	"fusillade/internal/batch"
	"fusillade/internal/consume"
	"fusillade/internal/endpoint"
	"fusillade/internal/seal"
)

// openBook reads where calls go, and keeps up with changes until it is closed.
func openBook(taking context.Context, r Resources, cfg Consuming) (book *endpoint.Book, stop func(), err error) {
	box, err := seal.New(cfg.Encryption.Key.All()...)
	if err != nil {
		return nil, nil, err
	}
	book, err = endpoint.New(endpoint.Config{
		Store: r.Store, Conn: r.Conn, Box: box, Log: r.Log,
		Default: func(m batch.Model) consume.Upstream {
			return consume.Upstream{BaseURL: cfg.Upstream.For(m), APIKey: cfg.APIKey.Reveal()}
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if err := book.Load(taking); err != nil {
		return nil, nil, err
	}
	// Calls go on after taking has ended.
	ctx, cancel := context.WithCancel(context.WithoutCancel(taking))
	var running sync.WaitGroup
	running.Go(func() { book.Run(ctx) })
	return book, func() {
		cancel()
		running.Wait()
	}, nil
}
