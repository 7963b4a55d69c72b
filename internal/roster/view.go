package roster

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Device is a registered device as others see it.
type Device struct {
	Key    subjects.Key
	ID     subjects.DeviceID
	Record *Record
	Held   []string // names of the capabilities that it holds, sorted
	Type   string
	// Status is one of package wire's. Online: it is not offline.
	Status string
	Online bool
	// Shown is the status that other devices are shown. It follows Status later
	// if the device asked for that. Extra belongs to it.
	Shown    string
	LastSeen time.Time
	// Active is when the device was last active, in Unix nanoseconds. It is exact
	// for devices that are connected here. For others it is what the session's
	// entry says, which may be some seconds late.
	Active int64
	Extra  json.RawMessage
	// Session and Edge say where the device is, or was, connected. Since is when
	// the session was new. Epoch rises with every registration.
	Session subjects.SessionID
	Edge    string
	Since   time.Time
	Epoch   uint64
}

// Holds reports whether the device holds a capability.
func (d *Device) Holds(capability string) bool {
	_, ok := slices.BinarySearch(d.Held, capability)
	return ok
}

// Get returns a device's record, or nil if it is not registered.
func (r *Roster) Get(k subjects.Key) *Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.findLocked(k); d != nil {
		return d.record()
	}
	return nil
}

// Len returns how many devices are registered.
func (r *Roster) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// Here returns how many devices are connected to this edge.
func (r *Roster) Here() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.slots)
}

// Devices returns the keys of all registered devices of k's user, sorted.
func (r *Roster) Devices(k subjects.Key) []subjects.Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	devices := r.users[k.User()]
	keys := make([]subjects.Key, 0, devices.len())
	for d := range devices.all() {
		if d.record() != nil {
			keys = append(keys, d.key)
		}
	}
	slices.Sort(keys)
	return keys
}

// User returns all registered devices of k's user, by name.
func (r *Roster) User(k subjects.Key) []Device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	devices := r.users[k.User()]
	all := make([]Device, 0, devices.len())
	for d := range devices.all() {
		if d.record() != nil {
			all = append(all, r.viewLocked(d))
		}
	}
	slices.SortFunc(all, func(a, b Device) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all
}

// Device returns one registered device.
func (r *Roster) Device(k subjects.Key) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := r.findLocked(k)
	if d == nil || d.record() == nil {
		return Device{}, false
	}
	return r.viewLocked(d), true
}

// Online reports whether a device is connected somewhere.
func (r *Roster) Online(k subjects.Key) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := r.findLocked(k)
	return d != nil && d.sess.online()
}

// SessionIn returns the epoch of an entry of the sessions' bucket, and whether it is that
// of a device that is connected somewhere. An entry that cannot be read counts as
// missing, as on every edge.
func SessionIn(entry []byte) (epoch uint64, online bool) {
	s, err := parseSession(entry)
	if err != nil {
		return 0, false
	}
	return s.Epoch, s.online()
}

// CountOnline returns how many registered devices are connected to an edge for
// which counts says yes.
func (r *Roster) CountOnline(counts func(edge string) bool) (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, devices := range r.users {
		for d := range devices.all() {
			if d.record() != nil && d.sess.online() && counts(d.sess.Edge) {
				n++
			}
		}
	}
	return n
}

// All calls yield for every registered device, in no order, until it returns
// false. It must not call the roster.
func (r *Roster) All(yield func(Device) bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, devices := range r.users {
		for d := range devices.all() {
			if d.record() != nil && !yield(r.viewLocked(d)) {
				return
			}
		}
	}
}

func (r *Roster) viewLocked(d *device) Device {
	v := newDevice(d.key, d.id, d.record(), d.sess)
	if sl := r.slots[d.key]; sl != nil {
		if cur := sl.current.Load(); cur != nil {
			v.LastSeen = time.Unix(0, cur.active.Load())
		}
	}
	v.Active = v.LastSeen.UnixNano()
	return v
}

// newDevice returns the device that a record and a session describe. The session
// may be nil.
func newDevice(k subjects.Key, id subjects.DeviceID, rec *Record, s *session) Device {
	d := Device{Key: k, ID: id, Record: rec, Held: rec.held, Type: rec.Type, Status: s.status(), Shown: s.shown(), LastSeen: rec.Registered}
	if s != nil {
		d.Online, d.LastSeen, d.Extra = s.online(), s.LastSeen.time(), s.shownExtra()
		d.Session, d.Edge, d.Since, d.Epoch = s.ID, s.Edge, s.Since.time(), s.Epoch
	}
	return d
}

// StoredDevice returns the device that its entries in the devices' and sessions'
// buckets describe, for callers that do not follow the buckets. The session's
// entry may be nil. An entry that cannot be read counts as missing, as on every
// edge.
func StoredDevice(a subjects.Address, record, entry []byte) (Device, bool) {
	rec, err := parseRecord(record)
	if err != nil {
		return Device{}, false
	}
	rec.held = wire.HeldCapabilities(rec.Capabilities)
	var s *session
	if entry != nil {
		s, _ = parseSession(entry) // nil if it cannot be read
	}
	return newDevice(a.Key(), a.Device, rec, s), true
}
