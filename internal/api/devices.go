package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

// User is a user that has a device.
type User = ops.User

// Device is a device as the API shows it.
type Device struct {
	User     string `json:"user"`
	Device   string `json:"device"`
	Type     string `json:"type"`
	Platform string `json:"platform"`
	Version  string `json:"version"`
	Status   string `json:"status" enum:"online,away,busy,offline"`
	// LastSeen is absent for a device that never registered.
	LastSeen       *time.Time     `json:"lastSeen,omitempty" doc:"When it was last seen; absent if it never registered and only has messages"`
	Capabilities   map[string]any `json:"capabilities" nullable:"false" doc:"As the device gave them"`
	Unacknowledged uint64         `json:"unacknowledged" doc:"Messages that it has not acknowledged"`
	Edge           string         `json:"edge" doc:"The edge that it is connected to; empty when it is offline"`
}

// newDevice is a device of the operators' model with what it has not
// acknowledged.
func newDevice(d *ops.Device, unacknowledged uint64) Device {
	v := Device{
		User: d.User, Device: d.Device, Type: d.Type, Platform: d.Platform, Version: d.Version, Status: d.Status,
		Capabilities: map[string]any{}, Unacknowledged: unacknowledged, Edge: d.Edge,
	}
	if !d.LastSeen.IsZero() {
		at := d.LastSeen.UTC()
		v.LastSeen = &at
	}
	_ = json.Unmarshal(d.Capabilities, &v.Capabilities) // they were checked when the device registered
	if v.Capabilities == nil {
		v.Capabilities = map[string]any{}
	}
	return v
}

// Filters are those of users and devices.
type Filters struct {
	Status string `query:"status" enum:"online,away,busy,offline" doc:"Only with this status"`
	Type   string `query:"type" maxLength:"128" doc:"Only of this device type"`
	Q      string `query:"q" maxLength:"128" doc:"Only with this in the name, in capitals or not"`
}

type usersInput struct {
	InTenant
	Paged
	Filters
}

type devicesInput struct {
	OfUser
	Paged
	Filters
}

type allDevicesInput struct {
	InTenant
	Paged
	Filters
}

type deviceOutput struct {
	Body Device
}

type forgetInput struct {
	OfDevice
	Unacknowledged string `query:"unacknowledged" enum:"drop" doc:"Also when messages are not acknowledged, or delayed: they are lost"`
}

func (a *API) registerDevices() {
	register(a, row{
		method: http.MethodGet, path: "/v1/users", id: "listUsers", tag: "Devices", summary: "List the users that have a device",
		description: "By name. `status` and `type` list users with a device of that status and type.",
	}, a.listUsers)
	register(a, row{
		method: http.MethodGet, path: "/v1/devices", id: "listAllDevices", tag: "Devices", who: operators,
		summary: "List the devices of all users", description: "By user and device. `q` is a part of either name, or of USER/DEVICE.",
	}, a.listAllDevices)
	register(a, row{
		method: http.MethodGet, path: "/v1/users/{user}/devices", id: "listDevices", tag: "Devices", summary: "List a user's devices",
	}, a.listDevices)
	register(a, row{
		method: http.MethodGet, path: "/v1/users/{user}/devices/{device}", id: "getDevice", tag: "Devices", summary: "Show a device",
		description: "A device that never registered is shown when it has messages.",
	}, a.getDevice)
	register(a, row{
		method: http.MethodDelete, path: "/v1/users/{user}/devices/{device}", id: "forgetDevice", tag: "Devices", who: operators,
		status: http.StatusNoContent, summary: "Forget a device with its inbox",
		description: "409 while it is connected, and while it has not acknowledged messages, unless `unacknowledged=drop`.",
	}, a.forgetDevice)
}

func (a *API) listUsers(_ context.Context, c *call, in *usersInput) (*listOutput[User], error) {
	after, bad := in.position()
	if bad != nil {
		return nil, bad
	}
	list, more := c.tenant.Directory().Users(ops.UserQuery{
		Type: in.Type, Status: in.Status, Text: in.Q, After: subjects.UserID(after), Limit: in.limit(),
	})
	return page(list, more, func(u User) string { return u.User }), nil
}

func (a *API) listDevices(ctx context.Context, c *call, in *devicesInput) (*listOutput[Device], error) {
	user, bad := in.user()
	if bad != nil {
		return nil, bad
	}
	after, bad := in.position()
	if bad != nil {
		return nil, bad
	}
	q := ops.DeviceQuery{User: user, Type: in.Type, Status: in.Status, Text: in.Q, Limit: in.limit()}
	if after != "" {
		q.After = subjects.Address{User: user, Device: subjects.DeviceID(after)}
	}
	return devicePage(ctx, c, q, func(d Device) string { return d.Device })
}

func (a *API) listAllDevices(ctx context.Context, c *call, in *allDevicesInput) (*listOutput[Device], error) {
	after, bad := in.position()
	if bad != nil {
		return nil, bad
	}
	q := ops.DeviceQuery{Type: in.Type, Status: in.Status, Text: in.Q, Limit: in.limit()}
	if after != "" {
		var err error
		if q.After, err = subjects.ParseAddress(after); err != nil {
			return nil, badRequest("after: not the next of a page of this list")
		}
	}
	return devicePage(ctx, c, q, func(d Device) string { return d.User + "/" + d.Device })
}

// devicePage lists the devices of a query, with what each has not acknowledged.
func devicePage(ctx context.Context, c *call, q ops.DeviceQuery, position func(Device) string) (*listOutput[Device], error) {
	list, more := c.tenant.Directory().Devices(q)
	counts, err := c.tenant.Ops.Unacknowledged(ctx, list)
	if err != nil {
		return nil, err
	}
	devices := make([]Device, len(list))
	for i, d := range list {
		devices[i] = newDevice(d, counts[i])
	}
	return page(devices, more, position), nil
}

func (a *API) getDevice(ctx context.Context, c *call, in *OfDevice) (*deviceOutput, error) {
	address, bad := in.address()
	if bad != nil {
		return nil, bad
	}
	report, err := c.tenant.Ops.Report(ctx, address)
	if err != nil {
		return nil, err
	}
	return &deviceOutput{Body: newDevice(report.Device, report.Inbox.Unacknowledged)}, nil
}

func (a *API) forgetDevice(ctx context.Context, c *call, in *forgetInput) (*struct{}, error) {
	address, bad := in.address()
	if bad != nil {
		return nil, bad
	}
	err := c.tenant.Ops.Act(ctx, c.record(audit.ActionForget, address.String(), in.Unacknowledged), func() error {
		return c.tenant.Ops.Forget(ctx, address, ops.ForgetOptions{Drop: in.Unacknowledged == "drop"})
	})
	if waiting, ok := errors.AsType[*ops.UnacknowledgedError](err); ok {
		p := conflict(fmt.Sprintf("%s: ?unacknowledged=drop loses them", waiting))
		p.Unacknowledged = waiting.Messages + waiting.Delayed
		return nil, p
	}
	return nil, err
}
