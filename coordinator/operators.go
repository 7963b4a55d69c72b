package coordinator

import (
	"cmp"
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of the endpoints for services and operators.
const (
	operatorWorkers = 8
	operatorBacklog = 256
	operatorTimeout = 20 * time.Second
	replayTimeout   = 10 * time.Minute

	pageDefault = 100
	pageMost    = 1000
)

// operatorEndpoints are those of services and operators: JSON objects in, JSON
// out. An error has the headers of ADR-32, and the payload of an error message as
// its body.
func (c *Coordinator) operatorEndpoints() []*endpoint {
	quick, slow := newWorkers(operatorWorkers, operatorBacklog), newWorkers(operatorWorkers, operatorBacklog)
	at := func(name string, p *workers, within time.Duration, h handler, does string) *endpoint {
		return &endpoint{name: name, subject: subjects.CoordinatorEndpoint(name), does: does, handle: h, pool: p, within: within}
	}
	return []*endpoint{
		at("status", quick, operatorTimeout, c.statusOfAll, "The tenant at a glance"),
		at("devices", quick, operatorTimeout, c.listDevices, "Devices of a user, or all, a page at a time"),
		at("device", quick, operatorTimeout, c.showDevice, "One device, with its session and inbox"),
		at("sessions", quick, operatorTimeout, c.listSessions, "Devices that are online, and where"),
		at("edges", quick, operatorTimeout, c.listEdges, "Edges that live"),
		at("forget", slow, ops.ForgetTimeout, c.forgetForService, "Removes a device and all that is its"),
		at("missed", slow, operatorTimeout, c.missed, "What is stored for a device and not acknowledged"),
		at("replay", slow, replayTimeout, c.replay, "Delivers stored messages again"),
		{
			name: "part-forget", subject: layout.PartEndpoint("forget"), does: "Removes a device and all that is its, for RCCS itself",
			handle: c.forgetForPart, pool: slow, within: ops.ForgetTimeout,
		},
	}
}

// deviceName is how a request names a device.
type deviceName struct {
	User   string `json:"user"`
	Device string `json:"device"`
}

// device returns the device that a request names. The request may have no other
// members.
func (r *request) device() (subjects.Address, *wire.Error) {
	var name deviceName
	if werr := r.decode(&name); werr != nil {
		return subjects.Address{}, werr
	}
	return name.address()
}

func (n *deviceName) address() (subjects.Address, *wire.Error) {
	a := subjects.Address{User: subjects.UserID(n.User), Device: subjects.DeviceID(n.Device)}
	if err := a.Check(); err != nil {
		return a, wire.NewError(wire.BadMessage, `"user" and "device" name the device: `+err.Error())
	}
	return a, nil
}

// page holds what all requests for lists share: {"user","after","limit"}. after is
// USER/DEVICE, the last device of the previous page.
type page struct {
	User  string `json:"user"`
	After string `json:"after"`
	Limit int    `json:"limit"`
}

// pageOf returns the devices of a page, by user and name, and the after of the
// next page; "" if there is none.
func (c *Coordinator) pageOf(p page, q ops.DeviceQuery) (list []*ops.Device, next string, werr *wire.Error) {
	if p.After != "" {
		var err error
		if q.After, err = subjects.ParseAddress(p.After); err != nil {
			return nil, "", wire.NewError(wire.BadMessage, `"after" is not USER/DEVICE: `+err.Error())
		}
	}
	if p.User != "" {
		if err := subjects.CheckUser(subjects.UserID(p.User)); err != nil {
			return nil, "", wire.NewError(wire.BadMessage, `"user" is not a user: `+err.Error())
		}
	}
	q.User, q.Limit = subjects.UserID(p.User), min(cmp.Or(max(p.Limit, 0), pageDefault), pageMost)
	list, more := ops.NewDirectory(c.rosters()...).Devices(q)
	if more && len(list) > 0 {
		next = list[len(list)-1].Address().String()
	}
	return list, next, nil
}

// listDevices answers {"user"?,"after"?,"limit"?,"online"?} with
// {"devices":[…],"next"?}; next is the after of the next page.
func (c *Coordinator) listDevices(_ context.Context, req *request) (any, *wire.Error) {
	var q struct {
		page
		Online bool `json:"online"`
	}
	if werr := req.decode(&q); werr != nil {
		return nil, werr
	}
	list, next, werr := c.pageOf(q.page, ops.DeviceQuery{Online: q.Online})
	if werr != nil {
		return nil, werr
	}
	return struct {
		Devices []*ops.Device `json:"devices"`
		Next    string        `json:"next,omitempty"`
	}{list, next}, nil
}

// listSessions answers {"user"?,"edge"?,"after"?,"limit"?} with
// {"sessions":[…],"next"?}, the devices that are online. edge is an edge's id or
// name.
func (c *Coordinator) listSessions(_ context.Context, req *request) (any, *wire.Error) {
	var q struct {
		page
		Edge string `json:"edge"`
	}
	if werr := req.decode(&q); werr != nil {
		return nil, werr
	}
	list, next, werr := c.pageOf(q.page, ops.DeviceQuery{Online: true, Edge: q.Edge})
	if werr != nil {
		return nil, werr
	}
	return struct {
		Sessions []*ops.Device `json:"sessions"`
		Next     string        `json:"next,omitempty"`
	}{list, next}, nil
}

// listEdges answers with {"edges":[{"id","name","address","version","started",
// "devices"}]}.
func (c *Coordinator) listEdges(_ context.Context, req *request) (any, *wire.Error) {
	if werr := req.decode(new(struct{})); werr != nil {
		return nil, werr
	}
	return struct {
		Edges []roster.Edge `json:"edges"`
	}{append([]roster.Edge{}, c.edges()...)}, nil
}

// showDevice answers {"user","device"} with the device as listDevices shows it,
// and "inbox": what is stored, sent and waiting in each lane. A device that has
// messages but has never registered is shown with its inbox alone.
func (c *Coordinator) showDevice(ctx context.Context, req *request) (any, *wire.Error) {
	a, werr := req.device()
	if werr != nil {
		return nil, werr
	}
	report, err := c.ops.Report(ctx, a)
	if err != nil {
		return nil, c.wireError("device not read", err)
	}
	return report, nil
}
