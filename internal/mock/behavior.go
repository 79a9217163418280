package mock

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Behavior is a way in which real endpoints answer, or don't, beside an answer
// and a plain error. A call gets one by a word in its prompt, mock:NAME, or for
// its first attempts only, mock:NAME*2; or by Settings.Behaviors.
type Behavior struct {
	Name string
	Doc  string // for the documentation: what is done
	// status is counted; 0: the call counts as aborted.
	status int
	play   func(t *turn)
}

// Behaviors are all there are, in the order of the documentation.
func Behaviors() []Behavior { return behaviors }

// turn is one call that is answered in a way of its own.
type turn struct {
	w      http.ResponseWriter
	r      *http.Request
	c      *call
	answer []byte // what would be answered otherwise
}

// askedBehavior is what a prompt asks for.
type askedBehavior struct {
	name  string // empty: nothing
	calls int    // only the first so many calls of the custom id; 0: all
}

var behaviorWord = regexp.MustCompile(`mock:([a-z0-9]+(?:-[a-z0-9]+)*)(?:\*([0-9]{1,6}))?`)

func findBehavior(body []byte) (asked askedBehavior) {
	// Most bodies have none, and Contains is faster than the expression.
	if !bytes.Contains(body, []byte("mock:")) {
		return asked
	}
	if found := behaviorWord.FindSubmatch(body); found != nil {
		asked.name = string(found[1])
		asked.calls, _ = strconv.Atoi(string(found[2]))
	}
	return asked
}

func behaviorNamed(name string) (Behavior, error) {
	for _, b := range behaviors {
		if b.Name == name {
			return b, nil
		}
	}
	return Behavior{}, fmt.Errorf("no behavior is named %q", name)
}

// behaviorRates are the shares of calls that get a behavior.
type behaviorRates struct {
	behaviors []Behavior
	rates     []float64
}

func parseBehaviorRates(s string) (rates behaviorRates, err error) {
	if s == "" {
		return rates, nil
	}
	sum := 0.0
	for element := range strings.SplitSeq(s, ",") {
		name, share, found := strings.Cut(strings.TrimSpace(element), "=")
		rate, errRate := strconv.ParseFloat(share, 64)
		if !found || errRate != nil || !(rate >= 0 && rate <= 1) {
			return behaviorRates{}, fmt.Errorf("behaviors: %q: want name=rate, such as html=0.05, the rate within 0 to 1", element)
		}
		b, err := behaviorNamed(name)
		if err != nil {
			return behaviorRates{}, fmt.Errorf("behaviors: %w", err)
		}
		rates.behaviors, rates.rates = append(rates.behaviors, b), append(rates.rates, rate)
		sum += rate
	}
	if sum > 1+1e-9 {
		return behaviorRates{}, fmt.Errorf("behaviors %q: the rates add up to more than 1", s)
	}
	return rates, nil
}

// of returns the behavior that a call gets, by its prompt or by chance.
func (r behaviorRates) of(c *call) (b Behavior, found bool) {
	if c.behavior.name != "" {
		if c.behavior.calls > 0 && c.number >= int64(c.behavior.calls) {
			return Behavior{}, false
		}
		b, err := behaviorNamed(c.behavior.name)
		return b, err == nil
	}
	u := unit(c.draw.perCall(forBehavior))
	for i, rate := range r.rates {
		if u < rate {
			return r.behaviors[i], true
		}
		u -= rate
	}
	return Behavior{}, false
}
