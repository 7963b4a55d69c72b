package roster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Roster is the devices of one tenant, and who of them is online.
type Roster struct {
	opts    Options
	id      string
	edge    string // id, of an edge; empty when it only follows
	readers []*reader.Reader
	stopped atomic.Bool
	quit    chan struct{}
	wg      sync.WaitGroup

	// told orders the calls of Changed: taken before mu.
	told sync.Mutex

	mu    sync.RWMutex
	live  bool                                // what comes now is news
	users map[string]map[subjects.Key]*device // by the user's token
	count int
	edges map[string]*edgeState
	slots map[subjects.Key]*slot // of devices that this edge writes sessions of
	empty chan struct{}          // closed when slots becomes empty; nil unless waited for
}

// device is what is known of one.
type device struct {
	rec  *Record  // nil until it has registered
	held []string // capabilities
	sess *session // nil when it never had one
	rev  uint64   // sequence of the session's entry, a deleted one's too
}

// New makes a roster; nothing runs until Start.
func New(opts Options) (*Roster, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	r := &Roster{
		opts: opts, id: nuid.Next(), quit: make(chan struct{}),
		users: make(map[string]map[subjects.Key]*device), edges: make(map[string]*edgeState), slots: make(map[subjects.Key]*slot),
	}
	if opts.Edge != nil {
		r.edge = r.id
	}
	// Edges last: what the sessions name and the edges do not know is dead.
	for _, b := range []struct {
		bucket string
		handle func(reader.Entry)
	}{
		{subjects.BucketDevices, r.onDevice},
		{subjects.BucketSessions, r.onSession},
		{subjects.BucketEdges, r.onEdge},
	} {
		rd, err := reader.New(reader.Options{
			Conn: opts.Read, Stream: "KV_" + b.bucket, FromStart: true, Handle: b.handle, Logger: opts.Logger,
		})
		if err != nil {
			return nil, err
		}
		r.readers = append(r.readers, rd)
	}
	return r, nil
}

// Start returns when everything stored has been read. An edge then has its
// lease, and the sessions of earlier processes of its name have ended.
func (r *Roster) Start(ctx context.Context) error {
	for n, rd := range r.readers {
		if err := rd.Start(ctx); err != nil {
			for _, started := range r.readers[:n] {
				_ = started.Stop(context.WithoutCancel(ctx))
			}
			return err
		}
	}
	r.mu.Lock()
	r.live = true
	r.mu.Unlock()
	r.noteUnknownEdges()
	if r.edge != "" {
		if err := r.begin(ctx); err != nil {
			_ = r.stopReaders(context.WithoutCancel(ctx))
			return err
		}
	}
	r.wg.Go(r.watchEdges)
	return nil
}

// Stop ends this edge's sessions, which can be resumed, and its lease, and
// returns when that is stored. It is idempotent.
func (r *Roster) Stop(ctx context.Context) error {
	if r.stopped.Swap(true) {
		return nil
	}
	var err error
	if r.edge != "" {
		err = r.finish(ctx)
	}
	close(r.quit)
	r.wg.Wait()
	return errors.Join(err, r.stopReaders(ctx))
}

func (r *Roster) stopReaders(ctx context.Context) error {
	var errs []error
	for _, rd := range r.readers {
		errs = append(errs, rd.Stop(ctx))
	}
	return errors.Join(errs...)
}

// deleted says that an entry of a bucket is the mark of its removal.
func deleted(e *reader.Entry) bool {
	op := e.Header.Get("KV-Operation")
	return op == "DEL" || op == "PURGE" || e.Header.Get("Nats-Marker-Reason") != ""
}

// onDevice applies one entry of the devices' bucket.
func (r *Roster) onDevice(e reader.Entry) {
	key, ok := subjects.ParseDeviceSubject(e.Subject)
	if !ok {
		return
	}
	if deleted(&e) {
		r.setRecord(key, nil)
		return
	}
	rec, err := parseRecord(e.Data)
	if err != nil {
		r.opts.Logger.Warn("unreadable device record ignored", "device", string(key), "err", err)
		return
	}
	r.setRecord(key, rec)
}

// deviceLocked is the device's place, made when there is none.
func (r *Roster) deviceLocked(k subjects.Key) *device {
	devices := r.users[k.User()]
	if devices == nil {
		devices = make(map[subjects.Key]*device)
		r.users[strings.Clone(k.User())] = devices
	}
	d := devices[k]
	if d == nil {
		d = &device{}
		devices[subjects.Key(strings.Clone(string(k)))] = d
	}
	return d
}

// dropLocked forgets a device of which nothing is left.
func (r *Roster) dropLocked(k subjects.Key, d *device) {
	if d.rec != nil || d.sess != nil || d.rev != 0 {
		return // the revision of a removed entry is needed to make it anew
	}
	devices := r.users[k.User()]
	if delete(devices, k); len(devices) == 0 {
		delete(r.users, k.User())
	}
}

// setRecord notes what a device is; nil when it is no more.
func (r *Roster) setRecord(k subjects.Key, rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.deviceLocked(k)
	switch {
	case d.rec == nil && rec != nil:
		r.count++
	case d.rec != nil && rec == nil:
		r.count--
	}
	d.rec, d.held = rec, nil
	if rec != nil {
		d.held = rec.held()
	}
	r.dropLocked(k, d)
}

// Len is how many devices are registered.
func (r *Roster) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// Devices returns the keys of all registered devices of k's user, sorted.
func (r *Roster) Devices(k subjects.Key) []subjects.Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	devices := r.users[k.User()]
	keys := make([]subjects.Key, 0, len(devices))
	for key, d := range devices {
		if d.rec != nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Get returns a device's record, or nil if it is not registered.
func (r *Roster) Get(k subjects.Key) *Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.users[k.User()][k]; d != nil {
		return d.rec
	}
	return nil
}

// Register records what a device is, if that is new. The record is known here
// at once and stored soon: a failure is tried again until it is stored or
// something newer is known of the device.
func (r *Roster) Register(k subjects.Key, rec Record) {
	var compact bytes.Buffer
	if json.Compact(&compact, rec.Capabilities) == nil {
		rec.Capabilities = compact.Bytes()
	}
	if old := r.Get(k); old != nil && old.same(&rec) {
		return
	}
	rec.Registered = time.Now().UTC()
	data, err := json.Marshal(&rec)
	if err != nil {
		r.opts.Logger.Error("device record not stored", "device", string(k), "err", err)
		return
	}
	r.setRecord(k, &rec)
	r.storeRecord(k, &rec, data)
}

// putAgain is how long after a failure an entry is stored again.
const putAgain = time.Second

func (r *Roster) storeRecord(k subjects.Key, rec *Record, data []byte) {
	r.opts.Put(&nats.Msg{Subject: subjects.DeviceSubject(k), Data: data}, func(seq uint64, err error) {
		if err == nil {
			go r.event(k, subjects.EventRegistered, "device", seq, rec.Registered)
			return
		}
		if r.stopped.Load() || r.Get(k) != rec {
			return
		}
		r.opts.Logger.Warn("device record not stored, trying again", "device", string(k), "err", err)
		time.AfterFunc(putAgain, func() {
			if !r.stopped.Load() && r.Get(k) == rec {
				r.storeRecord(k, rec, data)
			}
		})
	})
}

// Forget removes the device's record and session for good. done is called once
// when that is stored, or is not.
func (r *Roster) Forget(k subjects.Key, done func(error)) {
	left, failed := new(atomic.Int32), new(atomic.Pointer[error])
	left.Store(2)
	for _, subject := range []string{subjects.SessionSubject(k), subjects.DeviceSubject(k)} {
		m := &nats.Msg{Subject: subject, Header: nats.Header{"KV-Operation": {"DEL"}}}
		r.opts.Put(m, func(seq uint64, err error) {
			if err != nil {
				failed.Store(&err)
			}
			if left.Add(-1) > 0 {
				return
			}
			if e := failed.Load(); e != nil {
				done(*e)
				return
			}
			go r.event(k, subjects.EventForgotten, "device", seq, time.Now())
			done(nil)
		})
	}
}

// event tells services what happened. It may wait for the store, which a
// callback of Put must not. which and seq, of the entry that says
// so, make it one of a kind.
func (r *Roster) event(k subjects.Key, kind, which string, seq uint64, at time.Time) {
	a, err := k.Address()
	if err != nil {
		return
	}
	body, err := json.Marshal(struct {
		Kind   string `json:"kind"`
		User   string `json:"user"`
		Device string `json:"device"`
		At     string `json:"at"`
	}{kind, string(a.User), string(a.Device), at.UTC().Format(time.RFC3339Nano)})
	if err != nil {
		return
	}
	m := &nats.Msg{
		Subject: subjects.Event(k, kind), Data: body,
		Header: nats.Header{"Nats-Msg-Id": {eventID(which, seq, kind)}},
	}
	r.opts.Put(m, func(_ uint64, err error) {
		if err != nil {
			r.opts.Logger.Warn("event not stored", "kind", kind, "device", string(k), "err", err)
		}
	})
}
