package mock

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// errorRates are the shares of calls that are answered with an error.
type errorRates struct {
	final, transient []errorRate
}

type errorRate struct {
	status int
	rate   float64
}

func parseErrorRates(s string) (errorRates, error) {
	var rates errorRates
	if s == "" {
		return rates, nil
	}
	var sum float64
	seen := make(map[int]bool)
	for element := range strings.SplitSeq(s, ",") {
		code, share, found := strings.Cut(strings.TrimSpace(element), "=")
		status, errStatus := strconv.Atoi(code)
		rate, errRate := strconv.ParseFloat(share, 64)
		switch {
		case !found || errStatus != nil || errRate != nil:
			return errorRates{}, fmt.Errorf("errors: %q: want status=rate, such as 429=0.05", element)
		case status < 400 || status > 599:
			return errorRates{}, fmt.Errorf("errors: %q: the status is not within 400 to 599", element)
		case !(rate >= 0 && rate <= 1):
			return errorRates{}, fmt.Errorf("errors: %q: the rate is not within 0 to 1", element)
		case seen[status]:
			return errorRates{}, fmt.Errorf("errors: %q: status %d is listed twice", element, status)
		}
		seen[status] = true
		sum += rate
		if isFinal(status) {
			rates.final = append(rates.final, errorRate{status, rate})
		} else {
			rates.transient = append(rates.transient, errorRate{status, rate})
		}
	}
	if sum > 1+1e-9 {
		return errorRates{}, fmt.Errorf("errors %q: the rates add up to more than 1", s)
	}
	return rates, nil
}

// isFinal reports whether clients give up at once on the status.
func isFinal(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return status < http.StatusInternalServerError
}

// status returns the error that a call meets, or 200.
func (r errorRates) status(d draw) int {
	if status := pick(r.final, unit(d.perID(forFinalError))); status != 0 {
		return status
	}
	if status := pick(r.transient, unit(d.perCall(forError))); status != 0 {
		return status
	}
	return http.StatusOK
}

func pick(rates []errorRate, u float64) int {
	for _, r := range rates {
		if u < r.rate {
			return r.status
		}
		u -= r.rate
	}
	return 0
}
