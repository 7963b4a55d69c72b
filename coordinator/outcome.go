package coordinator

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// tellExpired tells the sender of a message that found no device, if it is a
// device and asked.
func (r *router) tellExpired(ctx context.Context, m *routed) error {
	if !m.promised || m.msg.From == "" || envelope.Value(m.header, subjects.HeaderAck) != "true" {
		return nil
	}
	o := wire.Outcome{OriginalID: m.id(), Status: wire.StatusExpired}
	to := subjects.Address{User: m.user, Device: m.msg.From}.Key()
	id := "outcome/route/" + strconv.FormatUint(m.seq, 10)
	_, err := r.c.store(ctx, &nats.Msg{
		Subject: subjects.Inbox(to, m.lane), Data: o.AppendPayload(nil),
		Header: nats.Header{
			jetstream.MsgIDHeader:    {id},
			subjects.HeaderID:        {"expired-" + strconv.FormatUint(m.seq, 10)},
			subjects.HeaderType:      {wire.TypeAck},
			subjects.HeaderTimestamp: {wire.FormatTime(time.Now())},
		},
	})
	return err
}
