package main

import (
	"fmt"
	"strings"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
)

// rateFlags are the rate limit of a model.
type rateFlags struct {
	Rpm *int64 `name:"rpm" placeholder:"N" help:"Requests in any minute, in the whole cluster; 0: as the dispatchers' environment says."`
	Tpm *int64 `name:"tpm" placeholder:"N" help:"Tokens in any minute, of prompts and answers; 0: as the dispatchers' environment says."`
}

func (f rateFlags) check() error {
	for name, n := range map[string]*int64{"rpm": f.Rpm, "tpm": f.Tpm} {
		if n != nil && (*n < 0 || *n > batch.MaxRate) {
			return fmt.Errorf("--%s must be from 0 to %d", name, batch.MaxRate)
		}
	}
	return nil
}

// rateText says what the last minute has had of the rate limit.
func rateText(m client.ModelStatus) string {
	var parts []string
	if m.RequestsPerMinute > 0 {
		parts = append(parts, cli.Number(m.RequestsLastMinute)+"/"+cli.Number(m.RequestsPerMinute)+" rpm")
	}
	if m.TokensPerMinute > 0 {
		parts = append(parts, cli.Number(m.TokensLastMinute)+"/"+cli.Number(m.TokensPerMinute)+" tpm")
	}
	return strings.Join(parts, ", ")
}
