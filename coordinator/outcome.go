package coordinator

import (
	"context"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
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
	seq := strconv.FormatUint(m.seq, 10)
	msg := inbox.Notice(r.c.pub.Proof, to, m.lane, "expired-"+seq, "route/"+seq, o.AppendPayload(nil))
	msg.Header[subjects.HeaderTimestamp] = []string{wire.FormatTime(time.Now())}
	_, err := r.c.store(ctx, msg)
	return err
}
