package batch

import "time"

// DefaultEscalationThreshold is the threshold of an escalation that names none.
const DefaultEscalationThreshold = 900 * time.Second

// Escalation says where requests for a model go when little time is left. The
// zero value: nowhere else.
type Escalation struct {
	Model     Model         // what they are routed to
	Threshold time.Duration // they are when less than this is left before the batch expires
}
