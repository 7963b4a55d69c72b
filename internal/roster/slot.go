package roster

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// slot orders this edge's writes of one device's session. One write is under way
// at a time, each is a compare-and-set on what is known to be stored, and of the
// waiting ones the latest counts. A slot exists while there is a session or
// something to write.
//
// Lock order: slot.mu, then Roster.mu.
type slot struct {
	key     subjects.Key
	current atomic.Pointer[Session] // the session that is open here; changed under mu

	mu      sync.Mutex
	gone    bool     // not in the map any more
	opening *opening // waits to be written; before update
	update  *update  // waits to be written
	flying  *write   // is being written
	// hold is set while nothing may be written: until a later revision than
	// behind has been read, or until it fires.
	hold   *time.Timer
	behind uint64
}

// opening is a registration.
type opening struct {
	s         *Session
	id        subjects.SessionID // if it becomes a new session
	write     uint64
	began     time.Time
	epoch     uint64 // the highest known when it began
	was       *session
	done      chan error
	abandoned bool // nobody waits for done
}

// update is a change of a session that is, or was, open.
type update struct {
	s      *Session
	write  uint64
	was    *session
	closed bool
	ended  bool
	reveal bool        // of an entry whose device is gone and held back
	done   func(error) // may be nil
}

func (u *update) finish(err error) {
	if u != nil && u.done != nil {
		go u.done(err) // callers hold locks that done may need
	}
}

// write is a write that is under way.
type write struct {
	state   *session
	base    uint64 // the revision that it replaces
	opening *opening
	update  *update
}

// lockSlot returns the device's slot, locked. It makes one if there is none.
func (r *Roster) lockSlot(k subjects.Key) *slot {
	for {
		r.mu.Lock()
		sl := r.slots[k]
		if sl == nil {
			sl = &slot{key: k}
			r.slots[k] = sl
		}
		r.mu.Unlock()
		sl.mu.Lock()
		if !sl.gone {
			return sl
		}
		sl.mu.Unlock()
	}
}

// tidy drops a slot that has nothing left to do.
func (r *Roster) tidy(sl *slot) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.gone || sl.current.Load() != nil || sl.opening != nil || sl.update != nil || sl.flying != nil {
		return
	}
	sl.gone = true
	sl.releaseLocked()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.slots, sl.key)
	if len(r.slots) == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// known returns the session that the store is known to hold, and its revision. A
// write of this process is known as soon as it is confirmed.
func (r *Roster) known(k subjects.Key) (*session, uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.findLocked(k); d != nil {
		return d.sess, d.rev
	}
	return nil, 0
}

// supersedeLocked makes o the opening to write next, in place of an earlier one.
func (sl *slot) supersedeLocked(o *opening) {
	if sl.opening != nil {
		sl.opening.done <- ErrReplaced
	}
	sl.opening = o
}

// updateLocked makes u the update to write next, in place of an earlier one.
func (sl *slot) updateLocked(u *update) {
	sl.update.finish(nil) // overtaken by what is newer
	sl.update = u
}

// holdLocked stops writing for d, or until a later revision than behind has been
// read.
func (r *Roster) holdLocked(sl *slot, d time.Duration, behind uint64) {
	sl.releaseLocked()
	sl.behind = behind
	sl.hold = time.AfterFunc(d, func() {
		sl.mu.Lock()
		sl.releaseLocked()
		r.reviewLocked(sl)
		sl.mu.Unlock()
		r.tidy(sl)
	})
}

func (sl *slot) releaseLocked() {
	if sl.hold != nil {
		sl.hold.Stop()
		sl.hold, sl.behind = nil, 0
	}
}

// flyLocked writes what is waiting, unless a write is under way or held.
func (r *Roster) flyLocked(sl *slot) {
	for sl.flying == nil && sl.hold == nil && (sl.opening != nil || sl.update != nil) {
		seen, rev := r.known(sl.key)
		w := &write{base: rev}
		if o := sl.opening; o != nil {
			sl.opening, w.opening = nil, o
			w.state = r.openLocked(sl, w, seen)
		} else {
			w.update, sl.update = sl.update, nil
			w.state = r.changeLocked(sl, w, seen)
		}
		if w.state != nil {
			r.sendLocked(sl, w)
		}
	}
}

// openLocked returns the entry that opens a session; nil if there is nothing to
// write.
func (r *Roster) openLocked(sl *slot, w *write, seen *session) *session {
	o := w.opening
	switch {
	case o.abandoned:
	case r.stopped.Load():
		o.done <- ErrStopped
	case r.wrote(seen, o.write): // an attempt that seemed to fail was stored
		w.state = seen
		r.storedLocked(sl, w, w.base)
	case seen.online() && seen.Epoch > o.epoch && seen.Opened > o.began.UnixNano():
		o.done <- ErrReplaced // by one that began later and was stored first
	default:
		o.was = seen
		return r.openedLocked(o, seen, w.base)
	}
	return nil
}

// changeLocked returns the entry that changes a session; nil if there is nothing
// to write.
func (r *Roster) changeLocked(sl *slot, w *write, seen *session) *session {
	u := w.update
	switch {
	case r.wrote(seen, u.write):
		w.state = seen
		r.storedLocked(sl, w, w.base)
	case seen != nil && seen.Epoch > u.s.Epoch:
		r.lostLocked(sl, seen.Epoch)
		if u.closed {
			u.finish(nil)
		} else {
			u.finish(ErrReplaced)
		}
	case u.reveal && !seen.heldBack():
		u.finish(nil)
	case u.reveal:
		u.was = seen
		return seen.revealed(r.id, u.write)
	default:
		u.was = seen
		return u.entryLocked()
	}
	return nil
}

// wrote reports whether the entry is this roster's write with that number.
func (r *Roster) wrote(s *session, write uint64) bool {
	return s != nil && s.writer() == r.id && s.Write == write
}

func (r *Roster) sendLocked(sl *slot, w *write) {
	m, err := sessionMsg(sl.key, w.state, w.base)
	if err != nil { // what the device said besides its status is no JSON
		r.opts.Logger.Error("session not encoded", "device", string(sl.key), "err", err)
		w.fail(err)
		return
	}
	sl.flying = w
	r.out.send(m, func(seq uint64, err error) { r.landed(sl, w, seq, err) })
}

// sessionMsg returns the message that replaces the entry of revision base.
func sessionMsg(k subjects.Key, s *session, base uint64) (*nats.Msg, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{
		Subject: layout.SessionSubject(k), Data: data,
		Header: nats.Header{nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(base, 10)}},
	}, nil
}

func (w *write) fail(err error) {
	if w.opening != nil {
		w.opening.done <- err
	}
	w.update.finish(err)
}

// conflictPause is how long to wait at most for the reader to have the entry to
// which a write lost. Usually that comes at once. If that entry was under way
// from elsewhere and then not stored, it never comes.
const conflictPause = 250 * time.Millisecond

// landed handles the answer to a write.
func (r *Roster) landed(sl *slot, w *write, seq uint64, err error) {
	if err == nil {
		r.apply(sl.key, w.state, seq, time.Now().UnixNano()) // before whoever waits goes on
	}
	sl.mu.Lock()
	sl.flying = nil
	switch {
	case err == nil:
		r.storedLocked(sl, w, seq)
	case storeerr.Lost(err):
		sl.backLocked(w)
		if _, rev := r.known(sl.key); rev <= w.base {
			r.holdLocked(sl, conflictPause, w.base)
		}
	case errors.Is(err, ErrStopped): // nothing is written any more
		w.fail(err)
		sl.update.finish(err)
		sl.update = nil
	case w.opening != nil:
		w.fail(err)
	default:
		r.opts.Logger.Warn("session not stored, trying again", "device", string(sl.key), "err", err)
		sl.backLocked(w)
		r.holdLocked(sl, putAgain, math.MaxUint64)
	}
	if !errors.Is(err, ErrStopped) {
		r.reviewLocked(sl)
	}
	sl.mu.Unlock()
	r.tidy(sl)
}

// backLocked puts a write back to wait, unless something newer waits.
func (sl *slot) backLocked(w *write) {
	switch {
	case w.opening != nil && sl.opening == nil:
		sl.opening = w.opening
	case w.opening != nil:
		w.opening.done <- ErrReplaced
	case sl.update == nil:
		sl.update = w.update
	default:
		w.update.finish(nil)
	}
}

// storedLocked goes on after a write was stored as revision rev.
func (r *Roster) storedLocked(sl *slot, w *write, rev uint64) {
	if w.update != nil {
		r.tellTurn(sl.key, w.update.was, w.state, rev)
		r.scheduleReveal(sl.key, w.state, rev, w.update.s.delay)
		w.update.finish(nil)
		return
	}
	r.tellTurn(sl.key, w.opening.was, w.state, rev)
	if w.opening.abandoned {
		return // reviewLocked closes it, since nobody holds it
	}
	if r.stopped.Load() {
		w.opening.done <- ErrStopped // the same
		return
	}
	sl.current.Store(w.opening.s)
	if old := sl.update; old != nil { // of the earlier connection
		sl.update = nil
		if old.closed {
			old.finish(nil)
		} else {
			old.finish(ErrReplaced)
		}
	}
	w.opening.done <- nil
}

// lostLocked gives the session up if epoch is later than its own.
func (r *Roster) lostLocked(sl *slot, epoch uint64) {
	cur := sl.current.Load()
	if cur == nil || epoch <= cur.Epoch {
		return
	}
	sl.current.Store(nil)
	if r.opts.Lost != nil {
		go r.opts.Lost(sl.key, cur.Epoch)
	}
}

// checkOwn compares the session in the store with what this edge holds.
func (r *Roster) checkOwn(k subjects.Key, s *session) {
	r.mu.RLock()
	sl := r.slots[k]
	r.mu.RUnlock()
	if sl == nil && (!s.online() || s.Edge != r.edge) {
		return // none of ours
	}
	sl = r.lockSlot(k)
	r.reviewLocked(sl)
	sl.mu.Unlock()
	r.tidy(sl)
}

// reviewLocked acts on differences between what is stored and what this edge
// holds, and goes on writing.
func (r *Roster) reviewLocked(sl *slot) {
	seen, rev := r.known(sl.key)
	if sl.hold != nil && rev > sl.behind {
		sl.releaseLocked()
	}
	if sl.flying != nil || sl.hold != nil {
		return // the answer will tell
	}
	if seen != nil {
		r.lostLocked(sl, seen.Epoch)
	}
	if sl.opening == nil && sl.update == nil {
		sl.update = r.amendLocked(sl, seen)
	}
	r.flyLocked(sl)
}

// amendLocked returns the update that makes the store right about this edge; nil
// if it is.
func (r *Roster) amendLocked(sl *slot, seen *session) *update {
	cur := sl.current.Load()
	switch {
	case cur == nil && seen.online() && seen.Edge == r.edge:
		// An opening that was stored and that nobody wants any more.
		s := &Session{ID: seen.ID, Epoch: seen.Epoch, r: r, key: sl.key, slot: sl, since: seen.Since, opened: seen.Opened}
		return &update{s: s, write: r.writes.Add(1), closed: true}
	case cur != nil && (!seen.online() || seen.Epoch < cur.Epoch):
		// Ended by a janitor that took this edge for dead, or forgotten.
		r.proveAlive()
		return &update{s: cur, write: r.writes.Add(1)}
	}
	return nil
}
