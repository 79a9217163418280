package consume

import (
	"math"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/rate"
	"fusillade/internal/upstream"
)

const (
	// rateAhead is for how long a pool has requests here that wait for a rate.
	rateAhead = time.Second
	// leaseAhead is the time to the next lease, and its way.
	leaseAhead = 500 * time.Millisecond
	// rateWait is how long a request waits here for a rate before it is released:
	// it may be another daemon's turn, or another owner's.
	rateWait = 30 * time.Second
	// ratePause is how long it is then left alone, and up to as long again.
	ratePause = 5 * time.Second
)

// RateLimits are those of credentials; models' are decided for the cluster.
type RateLimits struct {
	// Endpoints are of the operators' keys, by the endpoint's URL.
	Endpoints map[string]batch.RateLimit
	// OwnKeys is of each key that a batch brings, at each endpoint.
	OwnKeys batch.RateLimit
}

// permits are what a call takes: of its model's rate limit and of its
// credential's.
type permits [2]rate.Permit

func (p permits) cancel() {
	for i := range p {
		p[i].Cancel()
	}
}

// settle corrects what was taken, once the call has ended. One that was not made
// costs nothing.
func (p permits) settle(o *upstream.Outcome) {
	if o.Elapsed == 0 {
		p.cancel()
		return
	}
	for i := range p {
		p[i].Settle(o.Response.Usage.PromptTokens + o.Response.Usage.CompletionTokens)
	}
}

// modelRate is the account of the model's rate limit; nil: there is none. The
// caller holds the lock.
func (p *pool) modelRate() *rate.Account {
	limit := p.account.Rate()
	switch {
	case limit == nil:
		p.rated = nil
	case p.rated == nil || p.ratedBy != *limit:
		p.rated, p.ratedBy = p.c.rates.Model(p.account.Model(), *limit), *limit
	}
	return p.rated
}

// rateCredential notes by which rate limits the task's call is bound, before it
// is ready.
func (c *Consumer) rateCredential(t *task) {
	limits := &c.cfg.Rates
	var limit batch.RateLimit
	switch {
	case t.start.HasOwnKey:
		limit = limits.OwnKeys
	case len(limits.Endpoints) > 0:
		if to, ok := c.cfg.Resolve(t.pool.account.Model()); ok {
			limit = limits.Endpoints[plainURL(to.BaseURL)]
		}
	}
	if limit != (batch.RateLimit{}) {
		t.credentialRate = c.rates.Credential(string(t.credential), limit)
	}
	model := t.pool.account.Rate()
	if limit.Tokens > 0 || model != nil && model.Tokens > 0 {
		t.tokens = upstream.EstimateTokens(t.start.Template.Path, t.start.Template.Body)
	}
}

// plainURL is an endpoint's URL without user, password and query.
func plainURL(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery = nil, ""
	return strings.TrimRight(u.String(), "/")
}

// rateAnswer is whether a call may begin by the rate limits.
type rateAnswer int

const (
	rateGranted rateAnswer = iota
	rateOfModel            // the model's makes all of its requests wait
	rateOfOther            // the credential's makes this request wait
)

// takeRate takes what the task's call needs of its rate limits, all or nothing.
// The caller holds the lock.
func (p *pool) takeRate(t *task) (taken permits, answer rateAnswer) {
	var ok bool
	if a := p.modelRate(); a != nil {
		if t.tokens == 0 && p.ratedBy.Tokens > 0 { // the limit is younger than its start
			t.tokens = upstream.EstimateTokens(t.start.Template.Path, t.start.Template.Body)
		}
		if taken[0], ok = a.Take(t.tokens); !ok {
			return permits{}, rateOfModel
		}
	}
	if a := t.credentialRate; a != nil {
		if taken[1], ok = a.Take(t.tokens); !ok {
			taken[0].Cancel()
			return permits{}, rateOfOther
		}
	}
	return taken, rateGranted
}

// payRate charges the owner of a call with its part of the model's rate limit, so
// that owners share tokens and not numbers of calls where those are short: as the
// time in which the limit lets as much pass, times the slots. The caller holds the
// lock.
func (p *pool) payRate(t *task) {
	if p.rated == nil {
		return
	}
	part := 0.0 // of a minute's limit
	if limit := p.ratedBy.Requests; limit > 0 {
		part = 1 / float64(limit)
	}
	if limit := p.ratedBy.Tokens; limit > 0 {
		part = max(part, float64(t.permits[0].Tokens())/float64(limit))
	}
	slots := p.account.Standing().Limit
	p.times.pay(t.start.Owner, time.Duration(part*float64(slots)*float64(time.Minute)))
}

// rateDemand is what waits for an account here, and what is to be expected until
// its next lease: no more than finds slots.
func (c *Consumer) rateDemand(a *rate.Account) (demand []int64) {
	for _, p := range c.openPools() {
		demand = p.rateDemand(a, demand)
	}
	return demand
}

func (p *pool) rateDemand(a *rate.Account, demand []int64) []int64 {
	standing := p.account.Standing()
	p.mu.Lock()
	defer p.mu.Unlock()
	if standing.Paused || p.closed {
		return demand
	}
	expected := 0
	if time.Since(p.rate.since) < 2*leaseAhead {
		expected = int(math.Ceil(p.rate.current * leaseAhead.Seconds()))
	}
	n := max(standing.Allowed-standing.InUse, 0) + expected
	if len(p.ready) > 0 {
		n = max(n, 1)
	}
	ofModel, found := a == p.rated, 0
	for _, t := range p.ready {
		if found == n || len(demand) == rate.MaxDemand {
			return demand
		}
		if ofModel || t.credentialRate == a {
			demand = append(demand, a.Estimate(t.tokens))
			found++
		}
	}
	for ; ofModel && found < expected && len(demand) < rate.MaxDemand; found++ {
		demand = append(demand, a.Typical())
	}
	return demand
}

// rateDepth is how many requests may be here that wait for a rate; false: any
// number. The caller holds the lock.
func (p *pool) rateDepth() (int, bool) {
	a := p.modelRate()
	if a == nil {
		return 0, false
	}
	return max(int(math.Ceil(a.PerSecond()*rateAhead.Seconds())), 1), true
}

// waitingForSlots is how many ready requests would be called if there were slots:
// those that wait for a rate need none yet. The caller holds the lock.
func (p *pool) waitingForSlots() (ready int, moreQueued bool) {
	if depth, limited := p.rateDepth(); limited {
		return min(len(p.ready), depth), p.moreQueued && len(p.ready) == 0
	}
	return len(p.ready), p.moreQueued
}

// releaseRated releases requests that have waited for a rate for long.
func (p *pool) releaseRated() {
	now := time.Now()
	p.mu.Lock()
	var old []heldTask
	for i := 0; i < len(p.ready); {
		t := p.ready[i]
		if (p.rated != nil || t.credentialRate != nil) && now.Sub(t.started) > min(rateWait, p.c.cfg.ProcessingTimeout/3) {
			p.takeReady(i)
			old = append(old, heldTask{t, ratePause + rand.N(ratePause), false})
			continue
		}
		i++
	}
	p.held = append(p.held, old...)
	held := p.takeHeld()
	p.mu.Unlock()
	p.releaseHeld(held)
}

// rateChanged is told of a new lease.
func (c *Consumer) rateChanged(a *rate.Account) {
	for _, p := range c.openPools() {
		if p.waitsForRate(a) {
			p.dispatchReady()
		}
	}
}

func (p *pool) waitsForRate(a *rate.Account) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.ready {
		if a == p.rated || t.credentialRate == a {
			return true
		}
	}
	return false
}
