package coordinator

import (
	"context"
	"encoding/json"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of the endpoints for devices.
const (
	deviceWorkers = 32
	deviceBacklog = 4096
	deviceTimeout = 15 * time.Second
	// fetchers bounds how many fetches may wait for messages.
	fetchers = 1024
	maxWait  = 30 * time.Second
)

// deviceEndpoints are those that a device calls for itself, with its own
// credential on plain NATS. The subject names the device, and NATS lets nobody
// else publish to it.
func (c *Coordinator) deviceEndpoints() []*endpoint {
	work := newWorkers(deviceWorkers, deviceBacklog)
	at := func(name string, p *workers, within time.Duration, h handler, does string) *endpoint {
		return &endpoint{
			name: "device-" + name, subject: layout.AnyDeviceEndpoint(name), does: does, handle: h, pool: p, device: true, within: within,
		}
	}
	return []*endpoint{
		at("fetch", newWorkers(fetchers, deviceBacklog), maxWait+deviceTimeout, c.fetch, "The device's unacknowledged messages"),
		at("ack", work, deviceTimeout, c.acknowledge, "Acknowledges messages of the device"),
		at("send", work, deviceTimeout, c.send, "Sends a message of the device"),
		at("up", work, deviceTimeout, c.sendUp, "Sends a message of the device to services"),
	}
}

// owner returns the device that asks.
func (r *request) owner() (subjects.Address, *wire.Error) {
	a, err := r.key.Address()
	if err != nil {
		return a, wire.NewError(wire.BadMessage, "the subject does not name a device: "+err.Error())
	}
	return a, nil
}

// away refuses to move the cursor of a device that is connected to an edge,
// because the edge owns it then.
func (c *Coordinator) away(k subjects.Key) *wire.Error {
	if c.roster.Online(k) {
		return connected()
	}
	return nil
}

func connected() *wire.Error {
	return wire.NewError(wire.PermissionDenied, "the device is connected by WebSocket, and gets and acknowledges its messages there")
}

// stillAway is away as of now, and not as of what the roster has read. Call it after the
// cursor is stored. An edge stores the session before it reads the cursor: if there is
// no session now, no edge has read the cursor before. epoch is that of the last session,
// which may be over already; 0 if there was none.
func (c *Coordinator) stillAway(ctx context.Context, k subjects.Key) (epoch uint64, _ *wire.Error) {
	entry, err := c.direct.AtLeader(ctx, "KV_"+layout.BucketSessions, layout.SessionSubject(k), 1)
	if err != nil {
		return 0, c.wireError("session not looked up", err)
	}
	if entry == nil {
		return 0, nil
	}
	epoch, online := roster.SessionIn(entry.Data)
	if online {
		return epoch, connected()
	}
	return epoch, nil
}

// acknowledged is the answer to an ack.
type acknowledged struct {
	Status       wire.Status `json:"status"`
	Acknowledged int         `json:"acknowledged"`
}

// acknowledge answers {"seq":n}, {"seqs":[…]} or {"upTo":n} with
// {"status":"success","acknowledged":n} when that is stored: n is how many
// messages this request has acknowledged. Only messages that were fetched, or
// sent by an edge, can be acknowledged. Others are no error, and are ignored.
func (c *Coordinator) acknowledge(ctx context.Context, req *request) (any, *wire.Error) {
	arrived := time.Now()
	a, werr := req.owner()
	if werr != nil {
		return nil, werr
	}
	ack, err := wire.DecodeAck(nil, req.Data)
	switch {
	case err != nil:
		return nil, wire.AsError(err)
	case ack.Cancel != "":
		return nil, wire.NewError(wire.BadMessage, "cancel: what was asked or delayed is given up on a connection")
	}
	n, found, err := c.ackCursor(ctx, req.key, &ack)
	if err != nil {
		return nil, c.wireError("acknowledgement not stored", err)
	}
	if c.opts.Tracer != nil {
		c.recordAcked(a, found, ack.Reject.Seq, arrived)
	}
	return acknowledged{wire.StatusSuccess, n}, nil
}

// send answers an envelope with the payload of "accepted" when it is stored, or
// with that of an error. It is routed as an edge would route it. Control
// messages, requests and topics need a connection, and are refused.
func (c *Coordinator) send(ctx context.Context, req *request) (any, *wire.Error) {
	return c.sendEnvelope(ctx, req, false)
}

// sendUp is send for the tenant's services: the envelope needs no "to".
func (c *Coordinator) sendUp(ctx context.Context, req *request) (any, *wire.Error) {
	return c.sendEnvelope(ctx, req, true)
}

func (c *Coordinator) sendEnvelope(ctx context.Context, req *request, up bool) (any, *wire.Error) {
	a, werr := req.owner()
	if werr != nil {
		return nil, werr
	}
	e, werr := decodeOne(req.Data)
	if werr != nil {
		return nil, werr
	}
	if up {
		if to, named := e.Target(); named && !to.Service {
			return nil, wire.NewError(wire.BadMessage, "to: this endpoint is for messages to services").For(e.ID)
		}
		e.To, e.ToDeviceID = &wire.To{Service: true}, ""
	}
	accepted, werr := c.intake.Send(ctx, send.Device(a), e)
	if werr != nil {
		return nil, werr
	}
	return json.RawMessage(accepted.AppendPayload(nil)), nil
}

// decodeOne reads one envelope from an application.
func decodeOne(data []byte) (*wire.Envelope, *wire.Error) {
	items, err := wire.DecodeFrame(nil, data)
	switch {
	case err != nil:
		return nil, wire.AsError(err)
	case len(items) != 1:
		return nil, wire.NewError(wire.BadFrame, "one envelope a request")
	case items[0].Err != nil:
		return nil, items[0].Err
	case wire.IsControl(items[0].Type):
		return nil, wire.NewError(wire.BadMessage, "type "+items[0].Type+" is for a connection").For(items[0].ID)
	}
	if items[0].Timestamp == "" {
		items[0].Timestamp = wire.FormatTime(time.Now())
	}
	return &items[0].Envelope, nil
}
