package main

import (
	"strings"
	"testing"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/config"
)

func TestModelLimitText(t *testing.T) {
	t.Parallel()
	for want, status := range map[string]client.ModelStatus{
		"-":               {},
		"5":               {Limit: 5},
		"auto 37 (4–200)": {Limit: 37, LimitAuto: &client.LimitAuto{Min: 4, Max: 200}},
	} {
		if got := modelLimitText(status); got != want {
			t.Errorf("%+v: %q, want %q", status, got, want)
		}
	}
}

func TestSetLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]client.Limit{"0": "0", "7": "7", "auto": "auto", "auto:1-1000": "auto", "auto:4-200": "auto:4-200"} {
		change, err := (&modelsSetCmd{Model: "m", Limit: text}).change()
		if err != nil || change.Limit == nil || *change.Limit != want {
			t.Errorf("--limit %s: %v, %v", text, change.Limit, err)
		}
	}
	for _, text := range []string{"-1", "1000001", "auto:9-4", "many"} {
		if _, err := (&modelsSetCmd{Model: "m", Limit: text}).change(); err == nil || !strings.Contains(err.Error(), "--limit "+text) {
			t.Errorf("--limit %s: %v", text, err)
		}
	}
}

func TestConcurrencyFlag(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		all  batch.Limit
		m    batch.Limit
		most int
	}{
		"":               {10, 0, 1000},
		"2000":           {2000, 0, 2000},
		"auto":           {batch.AutoLimit(1, 1000), 0, 1000},
		"auto:4-5000":    {batch.AutoLimit(4, 5000), 0, 1000},
		"m=3":            {10, 3, 1000},
		"m=auto:2-9":     {10, batch.AutoLimit(2, 9), 1000},
		`{"m":"auto"}`:   {10, batch.AutoLimit(1, 1000), 1000},
		"m=5000,n=auto":  {10, 5000, 5010},
		"m=auto,n=1,o=2": {10, batch.AutoLimit(1, 1000), 1000},
	} {
		cfg := new(config.Standalone)
		cfg.DefaultModelConcurrency, cfg.MaxInFlight = 10, 1000
		err := (&localFlags{Concurrency: text}).setConcurrency(cfg)
		if err != nil || cfg.DefaultModelConcurrency != want.all || cfg.ModelConcurrencyLimits["m"] != want.m || cfg.MaxInFlight != want.most {
			t.Errorf("--concurrency %s: %v, all %v, m %v, at most %d", text, err, cfg.DefaultModelConcurrency, cfg.ModelConcurrencyLimits["m"], cfg.MaxInFlight)
		}
	}
	for _, text := range []string{"0", "-3", "auto:0-4", "some", "m=auto:4"} {
		if err := (&localFlags{Concurrency: text}).setConcurrency(new(config.Standalone)); err == nil {
			t.Errorf("--concurrency %s is taken", text)
		}
	}
}
