package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Errors of Forget.
var (
	// ErrConnected: a connected device would be there again at once.
	ErrConnected = errors.New("the device is connected")
	// ErrNoCoordinator: none answers.
	ErrNoCoordinator = errors.New("no coordinator answers")
)

// UnacknowledgedError says how many messages would be lost: those in the inbox, and
// those that are delayed.
type UnacknowledgedError struct{ Messages, Delayed uint64 }

func (e *UnacknowledgedError) Error() string {
	said := fmt.Sprintf("%d messages are not acknowledged", e.Messages)
	if e.Delayed > 0 {
		said += fmt.Sprintf(", and %d are delayed", e.Delayed)
	}
	return said
}

// ForgetOptions say how to forget a device.
type ForgetOptions struct {
	// Drop forgets a device that has not acknowledged all, or for which messages
	// are delayed, too: those are lost. Otherwise that is an [*UnacknowledgedError].
	Drop bool
}

// ForgetTimeout bounds what a coordinator does to forget a device. It removes messages
// from several lanes, and on a busy server NATS takes long for each: see removeTimeout.
const ForgetTimeout = time.Minute

// Forget has the coordinator remove a device, its inbox and all else that is
// its. The device may come again, as a new one.
func (t *Tenant) Forget(ctx context.Context, a subjects.Address, opts ForgetOptions) error {
	r, err := t.Report(ctx, a)
	switch {
	case errors.Is(err, ErrUnknownDevice):
		return audit.Refused(err)
	case err != nil:
		return err
	case r.Status != wire.Offline:
		return audit.Refused(fmt.Errorf("%s: %w to edge %s", a, ErrConnected, r.Edge))
	}
	if !opts.Drop {
		later, err := t.Later(ctx, subjects.Scope(a))
		if err != nil {
			return err
		}
		if lost := (UnacknowledgedError{r.Inbox.Unacknowledged, uint64(len(later))}); lost != (UnacknowledgedError{}) {
			return audit.Refused(&lost)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, ForgetTimeout+askTimeout) // the coordinator's own error is a better one
	defer cancel()
	err = roster.Forget(ctx, t.nc, a)
	if errors.Is(err, nats.ErrNoResponders) {
		return ErrNoCoordinator
	}
	return err
}
