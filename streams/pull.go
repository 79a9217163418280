package streams

import (
	"encoding/json"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

// PullSubject is where a model's messages are asked for, on the stream of the
// given name. What is published there is a Pull; the reply subject is where the
// messages go.
func PullSubject(stream string, m batch.Model) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + ConsumerName(m)
}

// Pull asks for messages. Format: JsApiConsumerGetNextRequest of NATS's ADR-13 and
// ADR-37.
type Pull struct {
	Batch     int           `json:"batch"`                    // the most messages
	Expires   time.Duration `json:"expires"`                  // when the server ends it; in nanoseconds
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"` // between signs of life while nothing comes; 0: none
}

// Encode returns the pull as it is sent.
func (p Pull) Encode() []byte {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("streams: numbers always encode: %v", err))
	}
	return raw
}

// HeaderStatus and HeaderDescription are of messages by which the server tells how
// a pull stands; messages of a stream have none.
const (
	HeaderStatus      = "Status"
	HeaderDescription = "Description"
)

// The values of HeaderStatus.
const (
	StatusHeartbeat = "100" // it goes on
	StatusNone      = "404" // it has ended without a message
	StatusExpired   = "408" // it has ended
	StatusConflict  = "409" // it has ended for the reason that HeaderDescription gives
	StatusNobody    = "503" // there is no such consumer, or nobody to ask
)
