package node

import (
	"fmt"
	"time"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/share"
)

// Limits bound what devices may cost an edge. Zero values mean the edge's
// defaults, and for those of [edge.Limits] no bound.
type Limits struct {
	edge.Limits
	// MessageBytes is the largest frame of a device, RegisterBytes that of one
	// that has not shown a credential.
	MessageBytes, RegisterBytes int
	// FrameBytes is the largest frame that is sent to a device.
	FrameBytes int
	// Deliveries is how many connections of a device are sent a message that
	// none acknowledges; 0 is any number.
	Deliveries int
	// Delay is how far ahead the time of a delayed message may lie.
	Delay time.Duration
	// RegisterWithin is how long a connection may go without a credential.
	RegisterWithin time.Duration
	// Shares are how much of the store one device and one user may take.
	Shares share.Bounds
	// Topics is how many a connection may be subscribed to.
	Topics int
}

// headroom is what NATS carries of a message beside its payload.
const headroom = 64 << 10

// check compares with the largest message that the NATS server takes.
func (l *Limits) check(maxPayload int64) error {
	if most := maxPayload - headroom; int64(l.MessageBytes) > most {
		return fmt.Errorf("node: --max-message-bytes %d is more than NATS carries: raise max_payload in nats.conf to %d or more, or make it %d or less",
			l.MessageBytes, l.MessageBytes+headroom, most)
	}
	return nil
}

// rates are the bounds of what devices send, for those that use plain NATS.
func (l *Limits) rates() send.Rates {
	r := l.Rates
	r.MaxMessage = l.MessageBytes
	return r
}
