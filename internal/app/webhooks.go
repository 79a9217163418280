package app

import (
	"fusillade/internal/config"
	"fusillade/internal/seal"
	"fusillade/internal/webhook"
)

func newSender(r Resources, e config.Encryption, w config.Webhooks) (*webhook.Sender, error) {
	box, err := seal.New(e.Key.All()...)
	if err != nil {
		return nil, err
	}
	return webhook.New(webhook.Config{
		Store: r.Store, Keyring: box, AllowPrivate: w.AllowPrivate, Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
}
