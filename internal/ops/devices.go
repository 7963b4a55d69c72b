package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Device is a device as operators see it: in the commands, in what the
// coordinator answers and in the HTTP API.
type Device struct {
	User         string          `json:"user"`
	Device       string          `json:"device"`
	Type         string          `json:"type,omitempty"`
	Platform     string          `json:"platform,omitempty"`
	Version      string          `json:"version,omitempty"`
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	// Status is online, away, busy or offline. A device whose edge is dead is
	// offline, whether or not that is stored yet.
	Status   string    `json:"status"`
	LastSeen time.Time `json:"lastSeen,omitzero"`
	// Registered is zero for a device that never registered and only has
	// messages.
	Registered time.Time `json:"registered,omitzero"`
	// Of the session, live or the last one, when there is one.
	Session string     `json:"session,omitempty"`
	Edge    string     `json:"edge,omitempty"` // the name of the edge that holds the device now
	Since   *time.Time `json:"since,omitempty"`
	Epoch   uint64     `json:"epoch,omitempty"`
	// Extra is what the device said beside its status.
	Extra json.RawMessage `json:"extra,omitempty"`
}

// Address is the device's.
func (d *Device) Address() subjects.Address {
	return subjects.Address{User: subjects.UserID(d.User), Device: subjects.DeviceID(d.Device)}
}

// newDevice is a device as the roster has it. edges are the names of the edges
// that live, by id.
func newDevice(a subjects.Address, r *roster.Device, edges map[string]string) *Device {
	d := &Device{
		User: string(a.User), Device: string(a.Device), Type: r.Type, Platform: r.Record.Platform, Version: r.Record.Version,
		Capabilities: r.Record.Capabilities, Registered: r.Record.Registered, LastSeen: r.LastSeen, Status: wire.Offline,
		Session: string(r.Session), Epoch: r.Epoch, Extra: r.Extra,
	}
	if r.Session != "" {
		d.Since = &r.Since
	}
	if name, lives := edges[r.Edge]; lives && r.Online {
		d.Status, d.Edge = r.Status, name
	}
	return d
}

// DeviceReport is a device with its inbox. A device that never registered and
// only has messages is shown, too.
type DeviceReport struct {
	*Device
	Inbox *Inbox `json:"inbox"`
}

// DeviceQuery says which devices to list.
type DeviceQuery struct {
	// User narrows the list to one user; empty: all.
	User subjects.UserID
	// Online leaves out devices that are offline.
	Online bool
	// Type, Status, Edge (a name or an id) and Text (a part of the name, in
	// capitals or not) leave out devices of which they are not true, where set.
	Type, Status, Edge, Text string
	// After goes on behind this device.
	After subjects.Address
	// Limit bounds the list; 0: no bound.
	Limit int
	// Progress, if set, is told how many devices of how many were looked at.
	Progress func(done, all int)

	edges []string // the ids of Edge, if that is an id, of a tenant with several shards
}

func (q *DeviceQuery) wants(d *Device) bool {
	return (!q.Online || d.Status != wire.Offline) && (q.Type == "" || d.Type == q.Type) &&
		(q.Status == "" || d.Status == q.Status) && (q.Edge == "" || d.Edge == q.Edge) && q.names(d.Address())
}

// devicesAtOnce is how many devices one request asks for.
const devicesAtOnce = 512

// Devices lists registered devices by name. more reports whether there are others
// behind those that were returned.
func (t *Tenant) Devices(ctx context.Context, q DeviceQuery) (list []*Device, more bool, err error) {
	if len(t.parts) > 0 && q.User == "" {
		return t.devicesOfAll(ctx, q)
	}
	t = t.of(q.User)
	counts, err := t.counts(ctx, bucketStream(layout.BucketDevices), layout.Devices(subjects.Scope{User: q.User}))
	if err != nil {
		return nil, false, err
	}
	edges, err := t.edgeNames(ctx)
	if err != nil {
		return nil, false, err
	}
	names := addresses(counts)
	if q.After != (subjects.Address{}) {
		i, found := slices.BinarySearchFunc(names, q.After, compareAddress)
		if found {
			i++
		}
		names = names[i:]
	}
	all := len(names)
	for len(names) > 0 {
		n := min(len(names), devicesAtOnce)
		if q.Limit > 0 { // some are of no interest, most are
			n = min(n, max(q.Limit+1-len(list), workers))
		}
		part, err := t.devices(ctx, names[:n], edges)
		if err != nil {
			return nil, false, err
		}
		for _, d := range part {
			if !q.wants(d) {
				continue
			}
			if q.Limit > 0 && len(list) == q.Limit {
				return list, true, nil
			}
			list = append(list, d)
		}
		if names = names[n:]; q.Progress != nil {
			q.Progress(all-len(names), all)
		}
	}
	return list, false, nil
}

// addresses are the devices of the subjects of a bucket, by name.
func addresses(counts map[string]uint64) []subjects.Address {
	list := make([]subjects.Address, 0, len(counts))
	for subject := range counts {
		k, ok := layout.ParseDeviceSubject(subject)
		if !ok {
			continue
		}
		if a, err := k.Address(); err == nil {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, compareAddress)
	return list
}

// devices looks several up; those that are forgotten are left out.
func (t *Tenant) devices(ctx context.Context, names []subjects.Address, edges map[string]string) ([]*Device, error) {
	records, sessions := make([]string, len(names)), make([]string, len(names))
	for i, a := range names {
		records[i], sessions[i] = layout.DeviceSubject(a.Key()), layout.SessionSubject(a.Key())
	}
	recs, err := t.lastDevice.Get(ctx, records)
	if err != nil {
		return nil, fmt.Errorf("ops: read devices: %w", err)
	}
	sess, err := t.lastSession.Get(ctx, sessions)
	if err != nil {
		return nil, fmt.Errorf("ops: read sessions: %w", err)
	}
	list := make([]*Device, 0, len(names))
	for i, a := range names {
		if d := storedDevice(a, recs[i], sess[i], edges); d != nil {
			list = append(list, d)
		}
	}
	return list, nil
}

// storedDevice is nil for one that is forgotten.
func storedDevice(a subjects.Address, record, session *direct.Stored, edges map[string]string) *Device {
	if record == nil || deleted(record.Header) {
		return nil
	}
	var entry []byte
	if session != nil && !deleted(session.Header) {
		entry = session.Data
	}
	r, ok := roster.StoredDevice(a, record.Data, entry)
	if !ok {
		return nil // edges ignore it too
	}
	return newDevice(a, &r, edges)
}

// Device looks one up. The error wraps [ErrUnknownDevice] when it is not
// registered.
func (t *Tenant) Device(ctx context.Context, a subjects.Address) (*Device, error) {
	t = t.of(a.User)
	edges, err := t.edgeNames(ctx)
	if err != nil {
		return nil, err
	}
	list, err := t.devices(ctx, []subjects.Address{a}, edges)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", a, ErrUnknownDevice)
	}
	return list[0], nil
}

// Report looks a device up with its inbox. The error wraps [ErrUnknownDevice]
// when it is not registered and has no messages.
func (t *Tenant) Report(ctx context.Context, a subjects.Address) (*DeviceReport, error) {
	t = t.of(a.User)
	inbox, err := t.Inbox(ctx, a)
	if err != nil {
		return nil, err
	}
	d, err := t.Device(ctx, a)
	switch {
	case errors.Is(err, ErrUnknownDevice):
		d = &Device{User: string(a.User), Device: string(a.Device), Status: wire.Offline}
	case err != nil:
		return nil, err
	}
	return &DeviceReport{Device: d, Inbox: inbox}, nil
}
