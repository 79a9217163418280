package dispatch

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
)

// settings are what operators have decided about models, with what the
// environment says of those about which they have decided nothing. They are
// not changed once they are made.
type settings struct {
	cfg         *Config
	set         map[batch.Model]postgres.ModelSettings
	escalations postgres.Escalations // in force
}

func newSettings(cfg *Config, set map[batch.Model]postgres.ModelSettings) *settings {
	s := &settings{cfg: cfg, set: set, escalations: maps.Clone(cfg.Escalations)}
	if s.escalations == nil {
		s.escalations = make(postgres.Escalations)
	}
	for model, m := range set {
		if m.Escalation != nil {
			s.escalations[model] = *m.Escalation
		}
	}
	maps.DeleteFunc(s.escalations, func(model batch.Model, e batch.Escalation) bool { return e.Model == "" || e.Model == model })
	return s
}

// same reports whether operators have decided nothing new.
func (s *settings) same(set map[batch.Model]postgres.ModelSettings) bool {
	return len(s.set) == 0 && len(set) == 0 || reflect.DeepEqual(s.set, set)
}

// limit is a model's concurrency limit.
func (s *settings) limit(model batch.Model) batch.Limit {
	n, ok := s.cfg.Limits[model]
	if !ok {
		n = s.cfg.DefaultLimit
	}
	return cmp.Or(s.set[model].Limit, n)
}

// rate is a model's rate limit.
func (s *settings) rate(model batch.Model) batch.RateLimit {
	environment, ok := s.cfg.Rates[model]
	if !ok {
		environment = s.cfg.DefaultRate
	}
	return s.set[model].Rate.Or(environment)
}

func (s *settings) paused(model batch.Model) bool { return s.set[model].Paused }

// slots is what daemons are told about the model.
func (s *settings) slots(model batch.Model) slots.Settings {
	return slots.Settings{Limit: s.limit(model), Paused: s.paused(model), Escalation: s.escalations[model], Rate: s.rate(model)}
}

// routes are the ways by which requests come to the model. An escalation is
// that of the model which the file names, so that a request takes one step at
// most, and a cycle of escalations leads nowhere.
func (s *settings) routes(model batch.Model) []postgres.Route {
	routes := []postgres.Route{{AtLeast: s.escalations[model].Threshold}}
	for _, from := range slices.Sorted(maps.Keys(s.escalations)) {
		if e := s.escalations[from]; e.Model == model {
			routes = append(routes, postgres.Route{From: from, Below: e.Threshold})
		}
	}
	return routes
}

// withEscalations adds the models to which requests for the given ones may go.
func (s *settings) withEscalations(models []batch.Model) []batch.Model {
	for _, model := range models {
		if e, ok := s.escalations[model]; ok && !slices.Contains(models, e.Model) {
			models = append(models, e.Model)
		}
	}
	return models
}

// decided are the settings in force.
func (d *Dispatcher) decided() *settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings
}

// adopt puts new settings in force and wakes those that act on them. The caller
// holds the lock.
func (d *Dispatcher) adopt(set map[batch.Model]postgres.ModelSettings) {
	if d.settings.same(set) {
		return
	}
	d.settings = newSettings(&d.cfg, set)
	d.changed.Notify()
	for _, l := range d.lanes {
		l.misrouted.Store(true)
		l.stale.Store(true)
		l.wake.Notify()
	}
}

// models are those that have lanes here or settings of operators.
func (d *Dispatcher) models() []batch.Model {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := make(map[batch.Model]bool)
	for m := range d.settings.set {
		known[m] = true
	}
	for m := range d.lanes {
		known[m] = true
	}
	return slices.Collect(maps.Keys(known))
}
