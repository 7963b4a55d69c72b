package coordinator

import (
	"cmp"
	"context"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Enroller signs devices' tokens; [enroll.Service] implements it. Requesters are
// told its errors as [wire.AsError] converts them.
type Enroller interface {
	Enroll(ctx context.Context, body []byte, from string) (*wire.Enrolled, error)
	Renew(ctx context.Context, body []byte, who subjects.Address) (*wire.Enrolled, error)
	NewCode(ctx context.Context, body []byte) (*enroll.Code, error)
}

// Bounds of the endpoints for enrolment.
const (
	enrollWorkers = 16
	enrollBacklog = 1024
)

// enrollEndpoints are those of a coordinator that can sign. Services call them to
// pass on what a device signed; edges call them too, and devices that renew over
// NATS.
func (c *Coordinator) enrollEndpoints() []*endpoint {
	if c.opts.Enroller == nil {
		return nil
	}
	work := newWorkers(enrollWorkers, enrollBacklog)
	at := func(name, subject string, device bool, h handler, does string) *endpoint {
		return &endpoint{name: name, subject: subject, does: does, handle: h, pool: work, device: device, within: operatorTimeout}
	}
	return []*endpoint{
		at("enroll", subjects.CoordinatorEndpoint(enroll.EndpointEnroll), false, c.enrollForService, "Enrols a device that signed the request"),
		at("renew", subjects.CoordinatorEndpoint(enroll.EndpointRenew), false, c.renewForDevice, "Renews the credential of a device that signed the request"),
		at("part-enroll", layout.PartEndpoint(enroll.EndpointEnroll), false, c.enrollForEdge, "Enrols a device, for edges"),
		at("part-renew", layout.PartEndpoint(enroll.EndpointRenew), false, c.renewForDevice, "Renews a device's credential, for edges"),
		at("part-enroll-code", layout.PartEndpoint(enroll.EndpointCode), false, c.newCode, "Makes a one-time code, for operators"),
		at("device-renew", layout.AnyDeviceEndpoint(enroll.EndpointRenew), true, c.renewOwn, "Renews the credential of the device that asks"),
	}
}

func (c *Coordinator) enrollForEdge(ctx context.Context, req *request) (any, *wire.Error) {
	return c.enroll(ctx, req, req.Header.Get(enroll.HeaderFrom))
}

// enrollForService counts each service as one address, because a service could
// name any device's address.
func (c *Coordinator) enrollForService(ctx context.Context, req *request) (any, *wire.Error) {
	return c.enroll(ctx, req, req.service())
}

// enroll enrols a device, and keeps a record of it. Without the record nobody is
// enrolled.
func (c *Coordinator) enroll(ctx context.Context, req *request, from string) (any, *wire.Error) {
	answer, err := c.opts.Enroller.Enroll(ctx, req.Data, from)
	if err != nil {
		return nil, wire.AsError(err)
	}
	err = audit.Write(ctx, c.js, audit.Record{
		Action: audit.ActionEnroll, Target: subjects.Address{User: answer.User, Device: answer.Device}.String(), Detail: "by a claim", Who: "the device", From: cmp.Or(from, "unknown"),
	})
	if err != nil {
		return nil, c.wireError("enrolment not recorded", err)
	}
	return answer, nil
}

// renewForDevice trusts the signature alone.
func (c *Coordinator) renewForDevice(ctx context.Context, req *request) (any, *wire.Error) {
	return told(c.opts.Enroller.Renew(ctx, req.Data, subjects.Address{}))
}

func (c *Coordinator) renewOwn(ctx context.Context, req *request) (any, *wire.Error) {
	a, werr := req.owner()
	if werr != nil {
		return nil, werr
	}
	return told(c.opts.Enroller.Renew(ctx, req.Data, a))
}

func (c *Coordinator) newCode(ctx context.Context, req *request) (any, *wire.Error) {
	return told(c.opts.Enroller.NewCode(ctx, req.Data))
}

func told[T any](answer *T, err error) (any, *wire.Error) {
	if err != nil {
		return nil, wire.AsError(err)
	}
	return answer, nil
}
