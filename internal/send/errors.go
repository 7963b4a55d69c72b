package send

import (
	"errors"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// How long a sender is asked to wait: for what passes in a moment, and for what
// takes until something is acknowledged or removed.
const (
	retrySoon = time.Second
	retryFull = 10 * time.Second
)

// StoreError is what a sender is told of an error of the store.
func StoreError(err error) *wire.Error {
	switch {
	case storeerr.Full(err):
		e := wire.NewError(wire.Unavailable, "the message store is full: the message was not stored")
		e.RetryAfter = retryFull
		return e
	case !storeerr.Passes(err):
		return wire.NewError(wire.Internal, "the message could not be stored")
	}
	return notKnown()
}

func notKnown() *wire.Error {
	e := wire.NewError(wire.Unavailable, "the message is not known to be stored: send it again with the same id")
	e.RetryAfter = retrySoon
	return e
}

// Unavailable is what a sender is told when the store does not answer.
func Unavailable() *wire.Error {
	e := wire.NewError(wire.Unavailable, "the message store does not answer, try again")
	e.RetryAfter = retrySoon
	return e
}

func (in *Intake) unavailable(what string, err error) *wire.Error {
	in.log.Warn("store does not answer", "what", what, "err", err)
	return Unavailable()
}

// admitError is what a sender is told when a device's inbox takes no more.
func admitError(device subjects.DeviceID, err error) *wire.Error {
	if !errors.Is(err, inbox.ErrFull) {
		return Unavailable()
	}
	e := wire.NewError(wire.QueueFull, "the inbox of "+string(device)+" is full of unacknowledged messages: nothing was stored for anybody")
	e.RetryAfter = retryFull
	return e
}
