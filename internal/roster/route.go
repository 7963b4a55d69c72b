package roster

import (
	"slices"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Message is what decides which devices a message is for.
type Message struct {
	Type string
	// To is the selector. HasTo reports whether there is one; otherwise the type
	// decides.
	To    wire.To
	HasTo bool
	// From is the sending device, empty for a service.
	From subjects.DeviceID
	// Holder is the device that holds the task to which the message belongs.
	Holder subjects.DeviceID
}

// Decision says which devices a message is for.
type Decision struct {
	// Targets are registered devices of the user, sorted, each once.
	Targets []subjects.DeviceID
	// Wait: the message is for one device, and none of those that it could be is
	// online. The first to come online gets it.
	Wait bool
}

// The types and capabilities in the routing table.
const (
	typeNotification = "notification"
	typeHandoff      = "device_handoff"

	capabilityFiles         = "supportsFileSync"
	capabilityNotifications = "supportsNotifications"

	deviceDesktop   = "desktop"
	deviceExtension = "extension"
)

// IsTask reports whether messages of the type belong to a task, and go to the one
// device that holds the task.
func IsTask(typ string) bool {
	switch typ {
	case "task_start", "task_pause", "task_resume", "task_cancel", "task_status":
		return true
	}
	return false
}

// IsHandoff reports whether messages of the type also go to the sender.
func IsHandoff(typ string) bool { return typ == typeHandoff }

func isFile(typ string) bool {
	switch typ {
	case "file_upload", "file_download", "file_sync", "file_delete":
		return true
	}
	return false
}

// Route decides which of a user's devices a message is for, by the table of
// section 4 of the protocol. It depends only on its arguments. The error is
// DEVICE_NOT_FOUND if there is no device, or BAD_MESSAGE.
func Route(m Message, devices []Device) (Decision, *wire.Error) {
	switch {
	case m.HasTo && m.To.Service:
		return Decision{}, wire.NewError(wire.BadMessage, "to.service is true: such a message is for services, and for no device")
	case m.Type == typeHandoff:
		return handoff(m, devices)
	case m.HasTo && m.To.Device != "":
		return named(string(m.To.Device), devices)
	}
	fits, one := candidates(m)
	if one && m.Holder != "" && registered(m.Holder, devices) {
		return Decision{Targets: []subjects.DeviceID{m.Holder}}, nil
	}
	var found []Device
	for _, d := range devices {
		if d.ID != m.From && fits(&d) {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return Decision{}, wire.NewError(wire.DeviceNotFound, "no registered device of this user is one that the message is for")
	}
	if one {
		return mostActive(found), nil
	}
	targets := make([]subjects.DeviceID, len(found))
	for i := range found {
		targets[i] = found[i].ID
	}
	slices.Sort(targets)
	return Decision{Targets: slices.Compact(targets)}, nil
}

// candidates returns which devices a message could be for, its sender aside, and
// whether it goes to only one of them.
func candidates(m Message) (fits func(*Device) bool, one bool) {
	switch {
	case m.HasTo:
		one = m.To.Mode == wire.ModeAny
		switch {
		case m.To.DeviceType != "":
			return func(d *Device) bool { return d.Type == m.To.DeviceType }, one
		case m.To.Capability != "":
			return func(d *Device) bool { return d.Holds(m.To.Capability) }, one
		}
	case IsTask(m.Type):
		return func(d *Device) bool { return d.Type == deviceDesktop || d.Type == deviceExtension }, true
	case isFile(m.Type):
		return func(d *Device) bool { return d.Holds(capabilityFiles) }, false
	case m.Type == typeNotification:
		return func(d *Device) bool { return d.Holds(capabilityNotifications) }, false
	}
	return func(*Device) bool { return true }, one
}

// mostActive picks the online device that was active last. Of equals it picks the
// one whose name comes first.
func mostActive(found []Device) Decision {
	var best *Device
	for i := range found {
		d := &found[i]
		if !d.Online {
			continue
		}
		if best == nil || d.Active > best.Active || d.Active == best.Active && d.ID < best.ID {
			best = d
		}
	}
	if best == nil {
		return Decision{Wait: true}
	}
	return Decision{Targets: []subjects.DeviceID{best.ID}}
}

func registered(id subjects.DeviceID, devices []Device) bool {
	return slices.ContainsFunc(devices, func(d Device) bool { return d.ID == id })
}

func named(device string, devices []Device) (Decision, *wire.Error) {
	id := subjects.DeviceID(device)
	if !registered(id, devices) {
		return Decision{}, wire.NewError(wire.DeviceNotFound, "no device of this user is registered as "+device)
	}
	return Decision{Targets: []subjects.DeviceID{id}}, nil
}

// handoff sends the message to the named device, with a copy to the sender.
func handoff(m Message, devices []Device) (Decision, *wire.Error) {
	if !m.HasTo || m.To.Device == "" {
		return Decision{}, wire.NewError(wire.BadMessage, "toDeviceId is missing: a device_handoff names the device that takes over")
	}
	d, err := named(string(m.To.Device), devices)
	if err != nil || d.Targets[0] == m.From || !registered(m.From, devices) {
		return d, err
	}
	d.Targets = append(d.Targets, m.From)
	slices.Sort(d.Targets)
	return d, nil
}
