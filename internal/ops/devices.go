package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Device is a registered device.
type Device struct {
	User         string          `json:"user"`
	Device       string          `json:"device"`
	Type         string          `json:"type,omitempty"`
	Platform     string          `json:"platform,omitempty"`
	Version      string          `json:"version,omitempty"`
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	// Status is online, away, busy or offline. A device whose edge is dead is
	// offline, whether or not that is stored yet.
	Status     string    `json:"status"`
	LastSeen   time.Time `json:"lastSeen"`
	Registered time.Time `json:"registered"`
	// Of the session, when there is one.
	Session string     `json:"session,omitempty"`
	Edge    string     `json:"edge,omitempty"` // the name of the edge that holds the device now
	Since   *time.Time `json:"since,omitempty"`
	Epoch   uint64     `json:"epoch,omitempty"`
}

// Address is the device's.
func (d *Device) Address() subjects.Address {
	return subjects.Address{User: subjects.UserID(d.User), Device: subjects.DeviceID(d.Device)}
}

// sessionEntry is a device's entry in the bucket of sessions, as edges write
// it.
type sessionEntry struct {
	ID       string    `json:"session"`
	Edge     string    `json:"edge"`
	Epoch    uint64    `json:"epoch"`
	Since    time.Time `json:"since"`
	Status   string    `json:"status"`
	LastSeen time.Time `json:"lastSeen"`
}

// DeviceQuery says which devices to list.
type DeviceQuery struct {
	// User narrows the list to one user; empty: all.
	User subjects.UserID
	// Online leaves out devices that are offline.
	Online bool
	// Type, if set, leaves out devices of other types.
	Type string
	// After goes on behind this device.
	After subjects.Address
	// Limit bounds the list; 0: no bound.
	Limit int
	// Progress, if set, is told how many devices of how many were looked at.
	Progress func(done, all int)
}

func (q *DeviceQuery) wants(d *Device) bool {
	return (!q.Online || d.Status != wire.Offline) && (q.Type == "" || d.Type == q.Type)
}

// devicesAtOnce is how many devices one request asks for.
const devicesAtOnce = 512

// Devices lists registered devices by name. more says that there are others
// behind those that were returned.
func (t *Tenant) Devices(ctx context.Context, q DeviceQuery) (list []*Device, more bool, err error) {
	counts, err := t.counts(ctx, bucketStream(subjects.BucketDevices), subjects.Scope{User: q.User}.Devices())
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
		k, ok := subjects.ParseDeviceSubject(subject)
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
		records[i], sessions[i] = subjects.DeviceSubject(a.Key()), subjects.SessionSubject(a.Key())
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
		if d := newDevice(a, recs[i], sess[i], edges); d != nil {
			list = append(list, d)
		}
	}
	return list, nil
}

// newDevice is nil for one that is forgotten.
func newDevice(a subjects.Address, record, session *direct.Stored, edges map[string]string) *Device {
	if record == nil || deleted(record.Header) {
		return nil
	}
	var rec roster.Record
	if err := json.Unmarshal(record.Data, &rec); err != nil {
		return nil // edges ignore it too
	}
	d := &Device{
		User: string(a.User), Device: string(a.Device), Type: rec.Type, Platform: rec.Platform, Version: rec.Version,
		Capabilities: rec.Capabilities, Registered: rec.Registered, LastSeen: rec.Registered, Status: wire.Offline,
	}
	var s sessionEntry
	if session == nil || deleted(session.Header) || json.Unmarshal(session.Data, &s) != nil {
		return d
	}
	d.LastSeen, d.Session, d.Epoch, d.Since = s.LastSeen, s.ID, s.Epoch, &s.Since
	if name, live := edges[s.Edge]; live && s.Status != wire.Offline {
		d.Status, d.Edge = s.Status, name
	}
	return d
}

// Device looks one up. The error wraps [ErrUnknownDevice] when it is not
// registered.
func (t *Tenant) Device(ctx context.Context, a subjects.Address) (*Device, error) {
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

// Errors of Forget.
var (
	// ErrConnected: a connected device would be there again at once.
	ErrConnected = errors.New("the device is connected")
	// ErrNoCoordinator: none answers.
	ErrNoCoordinator = errors.New("no coordinator answers")
)

// Forget has the coordinator remove a device, its inbox and all else that is
// its. The device may come again, as a new one.
func (t *Tenant) Forget(ctx context.Context, a subjects.Address) error {
	switch d, err := t.Device(ctx, a); {
	case errors.Is(err, ErrUnknownDevice):
		if _, err := t.check(ctx, a); err != nil { // it may have messages all the same
			return err
		}
	case err != nil:
		return err
	case d.Status != wire.Offline:
		return fmt.Errorf("%s: %w to edge %s", a, ErrConnected, d.Edge)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]string{"user": string(a.User), "device": string(a.Device)})
	if err != nil {
		return err
	}
	answer, err := t.nc.RequestWithContext(ctx, subjects.CoordinatorEndpoint("forget"), body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoCoordinator
	case err != nil:
		return fmt.Errorf("ops: forget %s: %w", a, err)
	}
	if text := answer.Header.Get("Nats-Service-Error"); text != "" {
		return fmt.Errorf("ops: the coordinator did not forget %s: %s", a, text)
	}
	return nil
}
