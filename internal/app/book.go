package app

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/resolver"
	"fusillade/internal/seal"
	"fusillade/internal/upstream"
)

// bookPause is how long to wait, more or less, before the database is asked
// again that did not answer.
const bookPause = 500 * time.Millisecond

// openBook reads where calls go, as soon as the database lets it, and keeps up
// with changes until it is closed. It returns an error when taking ends before.
func openBook(taking context.Context, r Resources, cfg ConsumerOptions) (book *resolver.Resolver, stop func(), err error) {
	box, err := seal.New(cfg.Encryption.Key.All()...)
	if err != nil {
		return nil, nil, err
	}
	book, err = resolver.New(resolver.Config{
		Store: r.Store, Conn: r.Conn, Keyring: box, Log: r.Log,
		Default: func(m batch.Model) upstream.Target {
			return upstream.Target{BaseURL: cfg.Upstream.For(m), APIKey: cfg.APIKey.Reveal()}
		},
	})
	if err != nil {
		return nil, nil, err
	}
	// A database that has just gone away comes back. Without having read it,
	// calls could go where they should not.
	for err := book.Load(taking); err != nil; err = book.Load(taking) {
		if taking.Err() == nil {
			r.Log.Warn("reading upstreams; no call is made before", "err", err)
		}
		select {
		case <-taking.Done():
			return nil, nil, taking.Err()
		case <-time.After(bookPause/2 + rand.N(bookPause)):
		}
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
