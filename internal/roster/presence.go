package roster

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// status is what others see of the device. A device that is not registered is
// seen by nobody. So it comes online once both its record and its session are
// known, in whichever order the buckets bring them.
func (d *device) status() string {
	if d.record() == nil {
		return wire.Offline
	}
	return d.sess.shown()
}

func (d *device) extra() json.RawMessage { return d.sess.shownExtra() }

// connected reports whether messages can reach the device now.
func (d *device) connected() bool { return d.record() != nil && d.sess.online() }

// change lets f change what is known of a device. It calls Options.Changed if
// others see a difference or the device can be reached again. f runs with told
// and mu held, and reports whether it has changed anything.
func (r *Roster) change(k subjects.Key, f func(d *device) bool) {
	r.told.Lock()
	defer r.told.Unlock()
	r.mu.Lock()
	d := r.deviceLocked(k)
	was, registered, extra, connected := d.status(), d.record() != nil, d.extra(), d.connected()
	changed := f(d)
	if now := d.record() != nil; now != registered {
		r.count--
		if now {
			r.count += 2
		}
	}
	is, tell := d.status(), changed && r.live && r.opts.Changed != nil
	var c Change
	seen := was != is || is != wire.Offline && string(extra) != string(d.extra())
	came := !connected && d.connected()
	if tell = tell && (seen || came); tell {
		c = Change{Key: k, ID: d.id, Status: is, Came: came, Unseen: !seen, LastSeen: time.Now(), Extra: d.extra()}
		if rec := d.record(); rec != nil {
			c.Type = rec.Type
		}
		if d.sess != nil {
			c.LastSeen = d.sess.LastSeen.time()
		}
	}
	r.dropLocked(d)
	r.mu.Unlock()
	if tell {
		r.opts.Changed(c)
	}
}

// onSession applies one entry of the sessions' bucket.
func (r *Roster) onSession(e reader.Entry) {
	key, ok := layout.ParseSessionSubject(e.Subject)
	if !ok {
		return
	}
	if _, rev := r.known(key); rev >= e.Seq {
		return // written here, and known since the store has confirmed it
	}
	if deleted(&e) {
		r.apply(key, nil, e.Seq, e.Time)
		return
	}
	s, err := parseSession(e.Data)
	if err != nil {
		// Nobody can tell what it means. The next connection overwrites it.
		r.opts.Logger.Warn("unreadable session taken for none", "device", string(key), "err", err)
	}
	r.apply(key, s, e.Seq, e.Time)
}

// apply notes that the store holds s as revision rev of the device's session.
// Both the reader and the writer of the entry call it; the first call counts. at
// is when the entry was stored, in Unix nanoseconds.
func (r *Roster) apply(k subjects.Key, s *session, rev uint64, at int64) {
	news := false
	r.change(k, func(d *device) bool {
		if rev <= d.rev {
			return false
		}
		d.sess, d.rev = s, rev
		if news = r.live; news {
			r.aliveLocked(s, at)
		}
		return true
	})
	if news && r.edge != "" {
		r.checkOwn(k, s)
	}
}

// tellTurn tells services that a device came online or went offline. The process
// that replaced the entry was by is, as revision rev, calls it. Since that is a
// compare-and-set, there is only one. Readers could not do it: the bucket keeps
// only the last entry, so they miss entries that are soon overtaken.
func (r *Roster) tellTurn(k subjects.Key, was, is *session, rev uint64) {
	before, after := was.shown() != wire.Offline, is.shown() != wire.Offline
	if before == after {
		return
	}
	kind := subjects.EventOffline
	if after {
		kind = subjects.EventOnline
	}
	e := event{Kind: kind, Edge: is.Edge, Session: is.ID}
	r.tellServices(k, e, is.LastSeen.time(), "session/"+strconv.FormatUint(rev, 10))
}
