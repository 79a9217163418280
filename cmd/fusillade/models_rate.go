package main

import (
	"fmt"
	"strconv"
	"strings"

	"fusillade/client"
	"fusillade/internal/batch"
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
		parts = append(parts, short(m.RequestsLastMinute)+"/"+short(m.RequestsPerMinute)+" rpm")
	}
	if m.TokensPerMinute > 0 {
		parts = append(parts, short(m.TokensLastMinute)+"/"+short(m.TokensPerMinute)+" tpm")
	}
	return strings.Join(parts, ", ")
}

// short spells a number with k, M or G where it has five digits or more.
func short(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1_000_000_000, "G"}, {1_000_000, "M"}, {1000, "k"}} {
		if n >= 10*unit.size {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}
