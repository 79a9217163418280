//go:build failpoint && unix

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const variable = "FAILPOINT"

// plan is what is to happen in this process; nil: nothing.
var plan = fromEnvironment()

type order struct {
	point  Point
	at     int64
	action string
	delay  time.Duration
	hits   atomic.Int64
}

func fromEnvironment() *order {
	text := os.Getenv(variable) //nolint:forbidigo // in builds for tests alone
	if text == "" {
		return nil
	}
	o, err := parse(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", variable, err)
		os.Exit(2)
	}
	return o
}

// parse reads point:hit:action[:duration].
func parse(text string) (*order, error) {
	fields := strings.Split(text, ":")
	if len(fields) < 3 || len(fields) > 4 {
		return nil, fmt.Errorf("%q: want point:hit:action[:duration]", text)
	}
	at, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || at < 1 {
		return nil, fmt.Errorf("%q: the hit is no number from 1 up", text)
	}
	o := &order{point: Point(fields[0]), at: at, action: fields[2]}
	if len(fields) == 4 {
		if o.delay, err = time.ParseDuration(fields[3]); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
	}
	if o.action != "kill" && o.action != "stop" && o.action != "delay" {
		return nil, fmt.Errorf("%q: the action is not kill, stop or delay", text)
	}
	return o, nil
}

// Hit acts if the environment says so.
func Hit(p Point) {
	if plan == nil || plan.point != p || plan.hits.Add(1) != plan.at {
		return
	}
	switch {
	case plan.action == "delay":
		fmt.Fprintf(os.Stderr, "failpoint %s: delay\n", p)
		<-time.After(plan.delay)
	case plan.delay > 0:
		time.AfterFunc(plan.delay, plan.strike)
	default:
		plan.strike()
	}
}

func (o *order) strike() {
	fmt.Fprintf(os.Stderr, "failpoint %s: %s\n", o.point, o.action)
	signal := syscall.SIGSTOP
	if o.action == "kill" {
		signal = syscall.SIGKILL
	}
	_ = syscall.Kill(os.Getpid(), signal)
}
