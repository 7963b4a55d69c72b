package backbone

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// Bound is what a stream may hold, and what it should be by the tenant's share.
type Bound struct {
	Stream     string
	Have, Want int64 // bytes; -1: no bound
	// Full says that the stream holds more than it should. Its bound then is what
	// it holds: nothing is removed, and nothing more fits.
	Full bool
	// Refused is why the server did not change it; nil: it was not asked.
	Refused error
}

// Shrink lowers the bounds of the account's streams to what the plan gives them.
func Shrink(ctx context.Context, js jetstream.JetStream, plan Plan) error {
	plan, err := plan.withDefaults()
	if err != nil {
		return err
	}
	_, err = plan.rebound(ctx, js, false)
	return err
}

// Rebound gives the account's streams the bounds of the plan, the lower ones
// first: the server sets aside what a bound allows. It returns those that do not
// have theirs. Streams that do not exist are passed over.
func Rebound(ctx context.Context, js jetstream.JetStream, plan Plan) ([]Bound, error) {
	plan, err := plan.withDefaults()
	if err != nil {
		return nil, err
	}
	lower, err := plan.rebound(ctx, js, false)
	if err != nil {
		return lower, err
	}
	higher, err := plan.rebound(ctx, js, true)
	return append(lower, higher...), err
}

// bounded are the streams, those of buckets among them, and what bounds them.
func (p Plan) bounded() []planned {
	all := p.streams()
	for _, b := range p.buckets() {
		all = append(all, planned{"KV_" + b.Bucket, func(c *jetstream.StreamConfig) {
			if b.MaxBytes > 0 {
				c.MaxBytes = b.MaxBytes
			}
		}})
	}
	return all
}

// rebound changes bounds: those that become lower, or those that do not.
func (p Plan) rebound(ctx context.Context, js jetstream.JetStream, grow bool) ([]Bound, error) {
	if p.StoreBytes <= 0 {
		return nil, nil
	}
	var short []Bound
	for _, s := range p.bounded() {
		info, err := leader.Info(ctx, js, s.name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return short, fmt.Errorf("backbone: %w", err)
		}
		shaped := info.Config
		s.shape(&shaped)
		want := info.Config
		want.MaxBytes, want.Discard = shaped.MaxBytes, shaped.Discard
		b := Bound{Stream: s.name, Have: info.Config.MaxBytes, Want: want.MaxBytes}
		if used := int64(info.State.Bytes); want.MaxBytes > 0 && used > want.MaxBytes { //nolint:gosec // what is on a disk
			want.MaxBytes, b.Full = used, true // a smaller share removes nothing
		}
		if grows := max(want.MaxBytes, 0) > max(b.Have, 0); grows != grow {
			continue
		}
		if err := upgrade(ctx, js, p, info.Config, want); storeerr.NoRoom(err) {
			b.Refused = err
		} else if err != nil {
			return short, err
		} else {
			b.Have = want.MaxBytes
		}
		if b.Full || b.Refused != nil {
			short = append(short, b)
		}
	}
	return short, nil
}

// tellShort says in the log which streams do not have the bounds of their share.
func (p Plan) tellShort(short []Bound) {
	for _, b := range short {
		if b.Refused != nil {
			p.Logger.Warn("the tenants' shares of the store do not fit: a stream keeps its bound", "stream", b.Stream, "bytes", b.Have, "err", b.Refused)
		}
	}
}
