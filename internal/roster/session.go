package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// session is a device's entry in the bucket of sessions.
type session struct {
	ID       subjects.SessionID `json:"session"`
	Edge     string             `json:"edge"`
	Epoch    uint64             `json:"epoch"`
	Since    time.Time          `json:"since"`
	Status   string             `json:"status"` // wire.Online, Away, Busy or Offline
	LastSeen time.Time          `json:"lastSeen"`
	Extra    json.RawMessage    `json:"extra,omitempty"`
	// Ended says that the device ended it, so that it is not resumed.
	Ended bool `json:"ended,omitempty"`
}

// seenAs is the status that others see.
func (s *session) seenAs() string {
	if s == nil {
		return wire.Offline
	}
	return s.Status
}

func (s *session) online() bool { return s.seenAs() != wire.Offline }

func eventID(which string, seq uint64, kind string) string {
	return "event/" + which + "/" + strconv.FormatUint(seq, 10) + "/" + kind
}

// Session is the attachment of a device to this edge.
type Session struct {
	// ID stays when the session is resumed or taken over.
	ID subjects.SessionID
	// Epoch rises with every registration of the device.
	Epoch uint64
	// Resumed says that ID is that of an earlier connection.
	Resumed bool
	// From is the id of another edge that held the device until now, or empty.
	From string

	r      *Roster
	key    subjects.Key
	slot   *slot
	active atomic.Int64
}

// SessionOptions are for what a session may need to know.
type SessionOptions struct{}

// slot orders what this edge writes of one device's session: one write is
// under way at a time, and the latest state wins.
//
// Lock order: slot.mu, then Roster.mu.
type slot struct {
	key     subjects.Key
	current atomic.Pointer[Session] // the one that is open here; changed under mu

	mu   sync.Mutex
	gone bool // not in the map any more
	// retrying: a timer will look at the slot again.
	retrying bool
	want     *session // what is to be stored; nil: nothing
	status   func(error)
	opened   chan error // whoever waits for want to be stored
	flying   *session   // what is being stored
	rev      uint64     // of the entry, as far as it is known here
}

// openTries bounds how often a registration is tried against others.
const openTries = 10

// Open makes this edge the one that holds the device. It returns when that is
// stored. Callers take turns for a device.
func (r *Roster) Open(ctx context.Context, k subjects.Key, _ SessionOptions) (*Session, error) {
	for range openTries {
		s, rev, err := r.tryOpen(ctx, k)
		if !errors.Is(err, ErrConflict) {
			return s, err
		}
		if err := r.await(ctx, k, rev); err != nil {
			return nil, err
		}
	}
	return nil, ErrReplaced
}

// await returns when the reader has something newer than rev.
func (r *Roster) await(ctx context.Context, k subjects.Key, rev uint64) error {
	tick := time.NewTicker(conflictPause)
	defer tick.Stop()
	for {
		if _, known := r.known(k); known > rev {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("roster: open a session of %s: %w", k, ctx.Err())
		}
	}
}

// tryOpen also returns the revision that it relied on.
func (r *Roster) tryOpen(ctx context.Context, k subjects.Key) (*Session, uint64, error) {
	sl := r.lockSlot(k)
	prev, rev := r.known(k)
	if latest := sl.latest(); latest != nil && (prev == nil || latest.Epoch >= prev.Epoch) {
		prev = latest // the store may not have it yet
	}
	now := time.Now().UTC()
	s := &Session{r: r, key: k, slot: sl, ID: subjects.SessionID(nuid.Next())}
	next := &session{Edge: r.edge, Epoch: 1, Since: now, Status: wire.Online, LastSeen: now}
	if prev != nil {
		next.Epoch = prev.Epoch + 1
		if !prev.Ended && (prev.online() || now.Sub(prev.LastSeen) <= r.opts.SessionTimeout) {
			s.ID, s.Resumed = prev.ID, true
			next.Since = prev.Since
			if prev.online() && prev.Edge != r.edge {
				s.From = prev.Edge
			}
			if prev.online() {
				next.Status, next.Extra = prev.Status, prev.Extra
			}
		}
	}
	next.ID, s.Epoch = s.ID, next.Epoch
	s.active.Store(now.UnixNano())
	sl.rev = max(sl.rev, rev)
	base := sl.rev
	before := sl.current.Load()
	done := make(chan error, 1)
	if sl.opened != nil {
		sl.opened <- ErrReplaced
	}
	sl.current.Store(s)
	sl.want, sl.opened = next, done
	sl.flushStatus(ErrReplaced)
	r.flyLocked(sl)
	sl.mu.Unlock()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return s, 0, nil
	}
	sl.mu.Lock()
	if errors.Is(err, ErrConflict) {
		before = nil // another edge has the device
	}
	sl.current.CompareAndSwap(s, before)
	if sl.opened == done {
		sl.opened = nil
	}
	sl.mu.Unlock()
	r.tidy(sl)
	return nil, base, fmt.Errorf("roster: open a session of %s: %w", k, err)
}

// latest is what will be in the store when all is written.
func (sl *slot) latest() *session {
	if sl.want != nil {
		return sl.want
	}
	return sl.flying
}

// flushStatus ends what waits for a status that is overtaken.
func (sl *slot) flushStatus(err error) {
	if sl.status != nil {
		go sl.status(err)
		sl.status = nil
	}
}

// lockSlot is the device's slot, made when there is none, locked.
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

// known is what the store is known to hold.
func (r *Roster) known(k subjects.Key) (*session, uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.users[k.User()][k]; d != nil {
		return d.sess, d.rev
	}
	return nil, 0
}

// flyLocked stores what is wanted, unless something is under way.
func (r *Roster) flyLocked(sl *slot) {
	if sl.flying != nil || sl.want == nil {
		return
	}
	state := sl.want
	sl.flying, sl.want = state, nil
	opened, status := sl.opened, sl.status
	sl.opened, sl.status = nil, nil
	data, err := json.Marshal(state)
	if err != nil {
		data = []byte("{}")
		r.opts.Logger.Error("session not encoded", "device", string(sl.key), "err", err)
	}
	m := &nats.Msg{
		Subject: subjects.SessionSubject(sl.key), Data: data,
		Header: nats.Header{"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(sl.rev, 10)}},
	}
	go r.opts.Put(m, func(seq uint64, err error) { r.landed(sl, state, opened, status, seq, err) })
}

// landed hears what became of a write.
func (r *Roster) landed(sl *slot, state *session, opened chan error, status func(error), seq uint64, err error) {
	if err == nil {
		r.apply(sl.key, state, seq) // before whoever waits goes on
	}
	sl.mu.Lock()
	sl.flying = nil
	switch {
	case err == nil:
		sl.rev = seq
	case errors.Is(err, ErrConflict):
		// Somebody else wrote: what they wrote will be read, and decides.
		r.conflictLocked(sl, state, opened != nil)
	case opened == nil && sl.want == nil && !r.stopped.Load():
		r.opts.Logger.Warn("session not stored, trying again", "device", string(sl.key), "err", err)
		sl.retrying = true
		time.AfterFunc(putAgain, func() { r.again(sl, state) })
	}
	r.flyLocked(sl)
	sl.mu.Unlock()
	if opened != nil {
		opened <- err
	}
	if status != nil {
		status(err)
	}
	r.tidy(sl)
}

// conflictLocked finds out what the store has, and tries once more what is
// still true.
func (r *Roster) conflictLocked(sl *slot, state *session, opening bool) {
	seen, rev := r.known(sl.key)
	switch {
	case opening || sl.want != nil:
		// Who opens tries again, and knows better by then.
		sl.rev = max(sl.rev, rev)
	case rev <= sl.rev: // not read yet; it will be within a moment
		sl.retrying = true
		time.AfterFunc(conflictPause, func() { r.again(sl, state) })
	default:
		sl.rev = rev
		r.retryLocked(sl, state, seen)
	}
}

// retryLocked wants state stored, unless a later registration stands.
func (r *Roster) retryLocked(sl *slot, state, seen *session) {
	if seen == nil || seen.Epoch <= state.Epoch {
		sl.want = state
		return
	}
	r.lostLocked(sl, seen.Epoch)
}

// lostLocked gives the session up if the epoch is a later one's.
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

// conflictPause is how long an edge waits for its reader to have what it lost
// to.
const conflictPause = 5 * time.Millisecond

// again stores a state that could not be stored, unless there is a newer one.
func (r *Roster) again(sl *slot, state *session) {
	sl.mu.Lock()
	sl.retrying = false
	if sl.want == nil && sl.flying == nil && !sl.gone {
		seen, rev := r.known(sl.key)
		sl.rev = max(sl.rev, rev)
		r.retryLocked(sl, state, seen)
		r.flyLocked(sl)
	}
	sl.mu.Unlock()
	r.tidy(sl)
}

// tidy drops a slot that has nothing to do.
func (r *Roster) tidy(sl *slot) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.current.Load() != nil || sl.want != nil || sl.flying != nil || sl.retrying || sl.gone {
		return
	}
	sl.gone = true
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.slots, sl.key)
	if len(r.slots) == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// Current says whether no other connection has taken the session over.
func (s *Session) Current() bool { return s.slot.current.Load() == s }

// Touch notes that the device did something, at a time in Unix nanoseconds.
func (s *Session) Touch(now int64) { s.active.Store(now) }

// SetStatus tells others how the device is. done is called once, from another
// goroutine, when that is stored or is not.
func (s *Session) SetStatus(status string, extra json.RawMessage, done func(error)) {
	s.slot.mu.Lock()
	defer s.slot.mu.Unlock()
	if s.slot.current.Load() != s {
		go done(ErrReplaced)
		return
	}
	s.slot.flushStatus(nil) // overtaken by this one
	next := s.stateLocked(status)
	next.Extra = extra
	s.slot.want, s.slot.status = next, done
	s.r.flyLocked(s.slot)
}

// stateLocked is the session's entry with another status.
func (s *Session) stateLocked(status string) *session {
	next := session{ID: s.ID, Edge: s.r.edge, Epoch: s.Epoch, Since: time.Now().UTC()}
	if latest := s.slot.latest(); latest != nil {
		next = *latest
	} else if seen, _ := s.r.known(s.key); seen != nil && seen.Epoch == s.Epoch {
		next = *seen
	}
	next.Status, next.LastSeen = status, time.Unix(0, s.active.Load()).UTC()
	return &next
}

// Close ends the attachment: the device is offline, unless another connection
// has taken over. ended says that it will not resume the session. It does not
// wait for that to be stored; done, unless it is nil, is called when it is, or
// is not.
func (s *Session) Close(ended bool, done func(error)) {
	sl := s.slot
	sl.mu.Lock()
	if sl.current.Load() != s {
		sl.mu.Unlock()
		if done != nil {
			go done(nil)
		}
		return
	}
	next := s.stateLocked(wire.Offline)
	next.LastSeen, next.Extra, next.Ended = time.Now().UTC(), nil, ended
	sl.current.Store(nil)
	sl.want = next
	sl.flushStatus(nil)
	sl.status = done
	s.r.flyLocked(sl)
	sl.mu.Unlock()
}

// onSession applies one entry of the sessions' bucket.
func (r *Roster) onSession(e reader.Entry) {
	key, ok := subjects.ParseSessionSubject(e.Subject)
	if !ok {
		return
	}
	if deleted(&e) {
		r.apply(key, nil, e.Seq)
		return
	}
	s := new(session)
	if err := json.Unmarshal(e.Data, s); err != nil {
		r.opts.Logger.Warn("unreadable session ignored", "device", string(key), "err", err)
		return
	}
	r.apply(key, s, e.Seq)
}

// apply notes what the store holds as rev of the device's session, and tells
// of what others see of it. It is called by the reader, and by who has stored
// it: the first counts.
func (r *Roster) apply(k subjects.Key, s *session, rev uint64) {
	r.told.Lock()
	defer r.told.Unlock()
	r.mu.Lock()
	d := r.deviceLocked(k)
	if rev <= d.rev {
		r.dropLocked(k, d)
		r.mu.Unlock()
		return
	}
	was := d.sess
	d.sess, d.rev = s, rev
	sl := r.slots[k]
	change := r.changeLocked(k, d, was)
	live := r.live
	r.dropLocked(k, d)
	r.mu.Unlock()
	if live {
		r.tell(change, was, s, rev)
	}
	if sl != nil {
		r.checkOwn(sl, s, rev)
	}
}

func (r *Roster) changeLocked(k subjects.Key, d *device, was *session) Change {
	c := Change{Key: k, Was: was.seenAs(), Status: d.sess.seenAs(), LastSeen: time.Now()}
	if a, err := k.Address(); err == nil {
		c.ID = a.Device
	}
	if d.rec != nil {
		c.Type = d.rec.Type
	}
	if d.sess != nil {
		c.LastSeen, c.Extra = d.sess.LastSeen, d.sess.Extra
	}
	return c
}

// tell tells of a change that others see; told is held.
func (r *Roster) tell(c Change, was, is *session, rev uint64) {
	if r.opts.Changed != nil && (c.Was != c.Status || is != nil && was != nil && string(was.Extra) != string(is.Extra)) {
		r.opts.Changed(c)
	}
	if was.online() == is.online() || is == nil {
		return
	}
	kind := subjects.EventOffline
	if is.online() {
		kind = subjects.EventOnline
	}
	if is.Edge == r.edge || is.Edge == sweptBy+r.id {
		go r.event(c.Key, kind, "session", rev, is.LastSeen)
	}
}

// checkOwn compares what the store holds with what this edge holds.
func (r *Roster) checkOwn(sl *slot, s *session, rev uint64) {
	sl.mu.Lock()
	cur := sl.current.Load()
	if cur == nil || sl.flying != nil || sl.want != nil || rev <= sl.rev {
		sl.mu.Unlock()
		return // nothing is open, or the answer to a write will tell
	}
	sl.rev = rev
	switch {
	case s != nil && s.Epoch > cur.Epoch:
		r.lostLocked(sl, s.Epoch)
	case s == nil || s.Status == wire.Offline:
		// Ended by a janitor, who took this edge for dead, or forgotten.
		again := cur.stateLocked(wire.Online)
		again.ID, again.Edge, again.Epoch, again.Ended = cur.ID, r.edge, cur.Epoch, false
		sl.want = again
		r.flyLocked(sl)
	}
	sl.mu.Unlock()
	r.tidy(sl)
}
