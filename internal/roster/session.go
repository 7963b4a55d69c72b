package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// session is a device's entry in the sessions' bucket.
type session struct {
	ID       subjects.SessionID `json:"session"`
	Edge     string             `json:"edge"`
	Epoch    uint64             `json:"epoch"`
	Since    stamp              `json:"since"`  // when the session was new
	Opened   int64              `json:"opened"` // when this registration began, Unix nanoseconds
	Status   string             `json:"status"` // wire.Online, Away, Busy or Offline
	LastSeen stamp              `json:"lastSeen"`
	Extra    json.RawMessage    `json:"extra,omitempty"`
	// Ended: the device ended the session, so it is not resumed.
	Ended bool `json:"ended,omitempty"`
	// Was and WasExtra are Status and Extra when the connection was lost. A
	// resumed session goes on with them.
	Was      string          `json:"was,omitempty"`
	WasExtra json.RawMessage `json:"wasExtra,omitempty"`
	// Delay is for how long others are not shown that the connection was lost.
	// Until is when that ends. It is set while others are shown Was.
	Delay time.Duration `json:"delay,omitempty"`
	Until stamp         `json:"until,omitzero"`
	// Write numbers the writes of one writer. By is the writer if that is not the
	// edge.
	Write uint64 `json:"write"`
	By    string `json:"by,omitempty"`
}

func parseSession(data []byte) (*session, error) {
	s := new(session)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("roster: session: %w", err)
	}
	s.Edge, s.Status, s.By, s.Was = intern(s.Edge), intern(s.Status), intern(s.By), intern(s.Was)
	return s, nil
}

// status is the device's status, by which messages are routed.
func (s *session) status() string {
	if s == nil {
		return wire.Offline
	}
	return s.Status
}

// online reports whether the device is connected.
func (s *session) online() bool { return s.status() != wire.Offline }

// shown is the status that others are shown. For a while after its connection was
// lost, a device that asked for that is shown with its old status.
func (s *session) shown() string {
	if s.heldBack() {
		return s.Was
	}
	return s.status()
}

// shownExtra is what others are shown besides the status.
func (s *session) shownExtra() json.RawMessage {
	switch {
	case s == nil:
		return nil
	case s.heldBack():
		return s.WasExtra
	}
	return s.Extra
}

// heldBack reports whether others are not yet shown that the device is gone.
func (s *session) heldBack() bool { return s != nil && s.Until != 0 }

// loseConnection turns the entry into that of a device whose connection is lost.
// The session may be resumed.
func (s *session) loseConnection(now time.Time) {
	s.Was, s.WasExtra = s.Status, s.Extra
	s.Status, s.Extra = wire.Offline, nil
	if end := s.LastSeen.time().Add(s.Delay); end.After(now) {
		s.Until = stampOf(end)
	}
}

func (s *session) writer() string {
	if s.By != "" {
		return s.By
	}
	return s.Edge
}

// Session is the attachment of a device to this edge.
type Session struct {
	// ID stays the same when the session is resumed or taken over.
	ID subjects.SessionID
	// Epoch rises with every registration of the device.
	Epoch uint64
	// Before is the epoch of the session before this one; 0 if none is known.
	Before uint64
	// Resumed reports whether ID is that of an earlier connection.
	Resumed bool
	// From is the id of the other edge that held the device until now; empty if
	// none did.
	From string

	r      *Roster
	key    subjects.Key
	slot   *slot
	active atomic.Int64 // Unix nanoseconds

	// Guarded by slot.mu.
	since  stamp
	opened int64
	delay  time.Duration
	status string
	extra  json.RawMessage
}

// SessionOptions configure a session.
type SessionOptions struct {
	// Record, if set, is what the device is. It is registered before the session
	// is opened, and again if the device is forgotten meanwhile.
	Record *Record
	// OfflineDelay is for how long after a lost connection others are not shown
	// that the device is offline. Routing treats it as offline at once.
	OfflineDelay time.Duration
}

// Open makes this edge the holder of the device. It returns when that is stored.
// If several edges open a session at once, the registration that began last wins.
// The others get [ErrReplaced] or, if Open has returned, are told by
// Options.Lost. A registration that waits here while a later one comes gets
// ErrReplaced too.
func (r *Roster) Open(ctx context.Context, k subjects.Key, opts SessionOptions) (*Session, error) {
	if r.edge == "" {
		return nil, errors.New("roster: only an edge opens sessions: Options.Edge is missing")
	}
	if opts.Record != nil {
		r.Register(k, *opts.Record)
	}
	if err := r.awaitRecord(ctx, k); err != nil {
		return nil, fmt.Errorf("roster: open a session of %s: %w", k, err)
	}
	s := &Session{r: r, key: k, delay: opts.OfflineDelay}
	o := &opening{s: s, id: subjects.SessionID(nuid.Next()), write: r.writes.Add(1), done: make(chan error, 1)}
	sl := r.lockSlot(k)
	s.slot = sl
	if seen, _ := r.known(k); seen != nil {
		o.epoch = seen.Epoch
	}
	o.began = time.Now()
	sl.supersedeLocked(o)
	sl.releaseLocked()
	r.flyLocked(sl)
	sl.mu.Unlock()
	var err error
	select {
	case err = <-o.done:
	case <-ctx.Done():
		err = r.abandon(sl, o, ctx.Err())
	}
	r.tidy(sl)
	if err != nil {
		return nil, fmt.Errorf("roster: open a session of %s: %w", k, err)
	}
	if opts.Record != nil {
		// The device may have been forgotten before its session was there. From
		// here on that is noticed.
		r.Register(k, *opts.Record)
	}
	return s, nil
}

// abandon gives up an opening for which nobody waits any more.
func (r *Roster) abandon(sl *slot, o *opening, why error) error {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	select {
	case err := <-o.done: // it was faster
		return err
	default:
	}
	o.abandoned = true
	if sl.opening == o {
		sl.opening = nil
	}
	return why
}

// Current reports whether no other connection has taken the session over. An edge
// asks once it can handle Options.Lost, because the loss may have come before
// that.
func (s *Session) Current() bool { return s.slot.current.Load() == s }

// Touch notes that the device was active at now, in Unix nanoseconds.
func (s *Session) Touch(now int64) { s.active.Store(now) }

// SetStatus sets the status that others see: wire.Online, Away or Busy. extra is
// one JSON object or nil, and belongs to the roster from then on. done is called
// once, from another goroutine, when the status is stored, was overtaken by a
// later one, or could not be stored.
func (s *Session) SetStatus(status string, extra json.RawMessage, done func(error)) {
	sl := s.slot
	sl.mu.Lock()
	defer sl.mu.Unlock()
	u := &update{s: s, write: s.r.writes.Add(1), done: done}
	if sl.current.Load() != s {
		u.finish(ErrReplaced)
		return
	}
	s.status, s.extra = status, extra
	sl.updateLocked(u)
	s.r.flyLocked(sl)
}

// NoDelay makes the end of the attachment visible at once, because the device
// cannot come back.
func (s *Session) NoDelay() {
	s.slot.mu.Lock()
	defer s.slot.mu.Unlock()
	s.delay = 0
}

// Reveal makes the end of the attachment visible at once, even if it has ended
// already and is held back.
func (s *Session) Reveal() {
	s.NoDelay()
	if seen, rev := s.r.known(s.key); seen.heldBack() && seen.Epoch == s.Epoch {
		s.r.reveal(s.key, rev)
	}
}

// Close ends the attachment: the device is offline, unless another connection has
// taken over. ended says that the device will not resume the session. Close does
// not wait for the store. done, unless it is nil, is called from another
// goroutine when the end is stored or has failed.
func (s *Session) Close(ended bool, done func(error)) {
	sl := s.slot
	sl.mu.Lock()
	defer sl.mu.Unlock()
	u := &update{s: s, write: s.r.writes.Add(1), done: done, closed: true, ended: ended}
	if !sl.current.CompareAndSwap(s, nil) {
		u.finish(nil)
		return
	}
	sl.updateLocked(u)
	s.r.flyLocked(sl)
}

// openedLocked returns the entry with which o's session takes the device over
// from seen, which is stored as revision rev.
func (r *Roster) openedLocked(o *opening, seen *session, rev uint64) *session {
	s, now := o.s, time.Now().UTC()
	next := &session{
		ID: o.id, Edge: r.edge, Epoch: firstEpoch(rev, now), Since: stampOf(now), Opened: o.began.UnixNano(),
		Status: wire.Online, LastSeen: stampOf(now), Write: o.write, Delay: s.delay,
	}
	s.Resumed, s.From, s.Before = false, "", 0
	if seen != nil {
		next.Epoch, s.Before = seen.Epoch+1, seen.Epoch
		if seen.online() || !seen.Ended && now.Sub(seen.LastSeen.time()) <= r.opts.SessionTimeout {
			s.Resumed = true
			next.ID, next.Since = seen.ID, seen.Since
		}
		if s.Resumed && seen.Was != "" {
			next.Status, next.Extra = seen.Was, seen.WasExtra
		}
		if seen.online() { // a takeover does not change the status
			next.Status, next.Extra = seen.Status, seen.Extra
			if seen.Edge != r.edge {
				s.From = seen.Edge
			}
		}
	}
	s.ID, s.Epoch, s.since, s.opened = next.ID, next.Epoch, next.Since, next.Opened
	s.status, s.extra = next.Status, next.Extra
	s.active.Store(now.UnixNano())
	return next
}

// firstEpoch is the epoch of a session before which none is known. The store may have
// lost the entries of others, whose cursors it still has, and which edges may still
// hold. So it is above all that there can have been: it begins with the time, and
// rises by one with each registration.
func firstEpoch(rev uint64, now time.Time) uint64 {
	return max(rev+1, uint64(now.UnixMicro()))
}

// entryLocked returns the entry that u makes of its session.
func (u *update) entryLocked() *session {
	s := u.s
	next := &session{
		ID: s.ID, Edge: s.r.edge, Epoch: s.Epoch, Since: s.since, Opened: s.opened,
		Status: s.status, LastSeen: stamp(s.active.Load()), Extra: s.extra, Write: u.write,
		Delay: s.delay,
	}
	switch now := time.Now().UTC(); {
	case u.ended:
		next.Status, next.Extra, next.Ended, next.LastSeen = wire.Offline, nil, true, stampOf(now)
	case u.closed:
		next.LastSeen = stampOf(now)
		next.loseConnection(now)
	}
	return next
}

// scheduleReveal shows others that the device is gone when that was held back for
// long enough; at once if the delay was cancelled meanwhile. If this edge ends
// before, a sweep does it.
func (r *Roster) scheduleReveal(k subjects.Key, s *session, rev uint64, delay time.Duration) {
	if !s.heldBack() {
		return
	}
	wait := time.Until(s.Until.time())
	if delay == 0 {
		wait = 0
	}
	time.AfterFunc(wait, func() { r.reveal(k, rev) })
}

// reveal rewrites the entry as that of a device that is gone, unless there is a
// later entry.
func (r *Roster) reveal(k subjects.Key, rev uint64) {
	if r.stopped.Load() {
		return
	}
	sl := r.lockSlot(k)
	seen, now := r.known(k)
	if now == rev && sl.current.Load() == nil && sl.opening == nil && sl.update == nil && sl.flying == nil {
		sl.update = &update{s: &Session{r: r, key: k, Epoch: seen.Epoch}, write: r.writes.Add(1), reveal: true}
		r.flyLocked(sl)
	}
	sl.mu.Unlock()
	r.tidy(sl)
}

// revealed returns the entry with nothing held back.
func (s *session) revealed(by string, write uint64) *session {
	next := *s
	next.Until, next.By, next.Write = 0, by, write
	return &next
}
