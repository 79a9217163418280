package batch

import (
	"errors"
	"strconv"
)

// MaxPriority is the highest priority of a batch, and −MaxPriority the lowest.
const MaxPriority = 100

// PriorityKey is the key of a batch's metadata that gives its priority to clients
// that know no such field.
const PriorityKey = "fusillade-priority"

// ErrPriority is returned for what is no priority.
var ErrPriority = errors.New("must be a whole number from -100 to 100")

// ParsePriority reads a priority, or returns ErrPriority.
func ParsePriority(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < -MaxPriority || n > MaxPriority {
		return 0, ErrPriority
	}
	return n, nil
}
