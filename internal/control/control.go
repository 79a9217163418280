package control

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

// Config says what a Controller works with.
type Config struct {
	Store *postgres.Store
	Conn  *nats.Conn
	// Shards are those of the models' messages.
	Shards streams.Shards
	// Keyring encrypts keys and headers of models' endpoints; nil: they can have none.
	Keyring *seal.Keyring
	// Metrics is where cancelled batches are counted; nil: nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Controller changes batches, files and models when a user asks for it. It is
// safe for concurrent use.
//
// Its methods return the errors of the store's methods of the same name. They
// return no error of the broker: by then the operation is done, and what is
// missing happens by itself.
type Controller struct {
	cfg Config
	js  jetstream.JetStream

	recent    holdsCache
	cancelled prometheus.Counter
}

// New returns a Controller. It does not talk to the broker yet.
func New(cfg Config) (*Controller, error) {
	if cfg.Store == nil || cfg.Conn == nil || cfg.Log == nil {
		return nil, errors.New("control: Store, Conn and Log are required")
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("connecting to JetStream: %w", err)
	}
	return &Controller{
		cfg: cfg, js: js,
		cancelled: telemetry.Counter(cfg.Metrics, "batches_cancelled_total", "Batches cancelled through this process's API."),
	}, nil
}
