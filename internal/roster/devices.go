package roster

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// putAgain is how long after a failure a write is tried again.
const putAgain = time.Second

// onDevice applies one entry of the devices' bucket.
func (r *Roster) onDevice(e reader.Entry) {
	key, ok := layout.ParseDeviceSubject(e.Subject)
	if !ok {
		return
	}
	if deleted(&e) {
		r.forgotten(key, e.Seq)
		return
	}
	rec, err := parseRecord(e.Data)
	if err != nil {
		r.opts.Logger.Warn("unreadable device record ignored", "device", string(key), "err", err)
		return
	}
	r.noteRecord(key, rec, e.Seq)
}

// noteRecord notes a device's record that the bucket has as revision rev. A
// record that was registered here and is not stored yet takes precedence.
func (r *Roster) noteRecord(k subjects.Key, rec *Record, rev uint64) {
	r.caps.share(rec)
	r.change(k, func(d *device) bool {
		if rev <= d.recRev {
			return false
		}
		d.recRev, d.stored = rev, rec
		return true
	})
}

// forgotten notes that a device was removed by revision rev. A device that is
// connected here is registered again, because it believes that it is registered.
func (r *Roster) forgotten(k subjects.Key, rev uint64) {
	var again *Record
	r.change(k, func(d *device) bool {
		if rev <= d.recRev {
			return false
		}
		if r.hereLocked(k, d) && d.stored != nil && d.mine == nil {
			again = d.stored.anew()
			d.mine = again
		}
		d.recRev, d.stored = rev, nil
		return true
	})
	if again != nil {
		r.storeRecord(k, again)
	}
}

// hereLocked reports whether the device is connected to this edge. Its session
// may be stored and not in use yet, or removed and not stored again yet.
func (r *Roster) hereLocked(k subjects.Key, d *device) bool {
	if r.edge == "" {
		return false
	}
	sl := r.slots[k]
	return sl != nil && sl.current.Load() != nil || d.sess.online() && d.sess.Edge == r.edge
}

// Register records what a device is, if that is new. The record is known here at
// once and stored soon. A failed write is tried again until the record is stored
// or a newer one is registered here.
func (r *Roster) Register(k subjects.Key, rec Record) {
	var compact bytes.Buffer
	if json.Compact(&compact, rec.Capabilities) == nil {
		rec.Capabilities = compact.Bytes()
	}
	if old := r.Get(k); old != nil && old.same(&rec) {
		return
	}
	mine := rec.anew()
	r.caps.share(mine)
	r.change(k, func(d *device) bool {
		d.mine = mine
		return true
	})
	r.storeRecord(k, mine)
}

// storeRecord stores rec, and tries again as long as rec is the device's mine.
func (r *Roster) storeRecord(k subjects.Key, rec *Record) {
	data, err := json.Marshal(rec)
	if err != nil { // the capabilities are no JSON, which the edge has checked
		r.opts.Logger.Error("device record not encoded", "device", string(k), "err", err)
		close(rec.finished)
		return
	}
	r.out.send(&nats.Msg{Subject: layout.DeviceSubject(k), Data: data}, func(seq uint64, err error) {
		switch {
		case err == nil:
			r.recordStored(k, rec, seq)
			close(rec.finished)
			return
		case r.stopped.Load() || r.pending(k) != rec:
			close(rec.finished)
			return
		}
		r.opts.Logger.Warn("device record not stored, trying again", "device", string(k), "err", err)
		time.AfterFunc(putAgain, func() {
			if !r.stopped.Load() && r.pending(k) == rec {
				r.storeRecord(k, rec)
			} else {
				close(rec.finished)
			}
		})
	})
}

// pending returns the record of this process that is still to be stored, or nil.
func (r *Roster) pending(k subjects.Key) *Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.findLocked(k); d != nil {
		return d.mine
	}
	return nil
}

// awaitRecord returns when the record that was registered here for the device is
// stored. So services hear that a device is registered before they hear that it
// is online, although there is no order between the buckets.
func (r *Roster) awaitRecord(ctx context.Context, k subjects.Key) error {
	rec := r.pending(k)
	if rec == nil {
		return nil
	}
	select {
	case <-rec.finished:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recordStored notes that a record of this process was stored as revision seq.
func (r *Roster) recordStored(k subjects.Key, rec *Record, seq uint64) {
	kept := *rec
	kept.finished = nil
	r.change(k, func(d *device) bool {
		if seq >= d.recRev { // otherwise a later one was read
			d.recRev, d.stored = seq, &kept
		}
		if d.mine == rec {
			d.mine = nil
		}
		return true
	})
	r.tellServices(k, event{Kind: subjects.EventRegistered}, rec.Registered, "device/"+strconv.FormatUint(seq, 10))
}

// Forget removes the device's record and session for good. done is called once,
// when that is stored or has failed.
func (r *Roster) Forget(k subjects.Key, done func(error)) {
	left, failed := new(atomic.Int32), new(atomic.Pointer[error])
	left.Store(2)
	// Puts may be answered in any order. The event goes by the record's revision.
	forgotten := new(atomic.Uint64)
	for _, subject := range []string{layout.SessionSubject(k), layout.DeviceSubject(k)} {
		r.out.send(removal(subject), func(seq uint64, err error) {
			if err != nil {
				failed.Store(&err)
			} else if subject == layout.DeviceSubject(k) {
				forgotten.Store(seq)
			}
			if left.Add(-1) > 0 {
				return
			}
			if e := failed.Load(); e != nil {
				done(*e)
				return
			}
			r.forgotten(k, forgotten.Load())
			r.tellServices(k, event{Kind: subjects.EventForgotten}, time.Now(), "device/"+strconv.FormatUint(forgotten.Load(), 10))
			done(nil)
		})
	}
}
