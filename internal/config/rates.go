package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"fusillade/internal/batch"
)

// RateLimit is what may be sent in any minute; the zero value: any amount.
type RateLimit struct{ batch.RateLimit }

// Set reads 600rpm/100000tpm, or one half of it; empty: no limit.
func (r *RateLimit) Set(text string) (err error) {
	r.RateLimit = batch.RateLimit{}
	if text != "" {
		r.RateLimit, err = batch.ParseRateLimit(text)
	}
	return err
}

// ModelRateLimits are rate limits by model.
type ModelRateLimits map[batch.Model]batch.RateLimit

// String spells the limits as Set reads them.
func (l ModelRateLimits) String() string {
	return spell(l, batch.RateLimit.String)
}

// Set reads gpt-4=600rpm/100000tpm,… or {"gpt-4":"600rpm/100000tpm"}. In the
// short spelling the limit follows the last equals sign of its element.
func (l *ModelRateLimits) Set(text string) error {
	limits := ModelRateLimits{}
	err := eachRateLimit(text, func(name string, limit batch.RateLimit) error { return insert(limits, name, limit) })
	if err == nil {
		*l = limits
	}
	return err
}

// EndpointRateLimits are rate limits of the keys that endpoints are called with,
// by the endpoint's URL.
type EndpointRateLimits map[string]batch.RateLimit

// String spells the limits as Set reads them.
func (l EndpointRateLimits) String() string {
	models := make(ModelRateLimits, len(l))
	for base, limit := range l {
		models[batch.Model(base)] = limit
	}
	return models.String()
}

// Set reads https://api.example.com/v1=600rpm/100000tpm,… or JSON.
func (l *EndpointRateLimits) Set(text string) error {
	limits := EndpointRateLimits{}
	err := eachRateLimit(text, func(base string, limit batch.RateLimit) error {
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("has an element whose endpoint is not an http or https URL without user, query and fragment")
		}
		base = strings.TrimRight(base, "/")
		if _, twice := limits[base]; twice {
			return fmt.Errorf("has the endpoint %s twice", quote(base))
		}
		limits[base] = limit
		return nil
	})
	if err == nil {
		*l = limits
	}
	return err
}

func eachRateLimit(text string, set func(name string, limit batch.RateLimit) error) error {
	return eachText(text, "limit", func(name, value string) error {
		limit, err := batch.ParseRateLimit(value)
		if err != nil {
			return fmt.Errorf("has an element whose limit %w", err)
		}
		return set(name, limit)
	})
}
