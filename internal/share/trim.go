package share

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// chunk is a run of messages of one subject and one device.
type chunk struct {
	subject string
	key     subjects.Key
	last    uint64 // sequence
	size    amount
}

// room gathers, while what is stored is read, what may be removed.
type room struct {
	step   amount // about which a chunk is as large
	chunks map[string][]chunk
	sealed map[string]bool // subjects in which another user follows
}

// chunksOf is how many chunks a share is divided into: what is removed is right
// to one of them.
const chunksOf = 256

func newRoom(b limits) *room {
	step := func(device, user int64) int64 { return max(max(device, user)/chunksOf, 1) }
	return &room{
		step:   amount{step(b.device.messages, b.user.messages), step(b.device.bytes, b.user.bytes)},
		chunks: make(map[string][]chunk), sealed: make(map[string]bool),
	}
}

// add notes a message. What is nobody's, or another user's, ends what may be
// removed of its subject: a purge takes all before a sequence.
func (r *room) add(subject string, key subjects.Key, ok bool, seq uint64, size amount) {
	if r.sealed[subject] {
		return
	}
	all := r.chunks[subject]
	if !ok || len(all) > 0 && all[0].key.User() != key.User() {
		r.sealed[subject] = true
		return
	}
	if n := len(all) - 1; n >= 0 && all[n].key == key && all[n].size.messages < r.step.messages && all[n].size.bytes < r.step.bytes {
		all[n].last, all[n].size = seq, all[n].size.plus(size)
		return
	}
	r.chunks[subject] = append(all, chunk{subject, key, seq, size})
}

// tooMuch is how much a holding should be rid of: what is above three quarters
// of a limit is brought back to a half.
func tooMuch(now, limit amount) amount {
	part := func(now, limit int64) int64 {
		if limit <= 0 || now <= limit/4*3 {
			return 0
		}
		return now - limit/2
	}
	return amount{part(now.messages, limit.messages), part(now.bytes, limit.bytes)}
}

// trim removes the oldest of what nobody waits for, of those who are near their
// bounds.
func (s *Shares) trim(k Kind, found map[string]*user, r *room, b limits) error {
	users, devices := make(map[string]amount), make(map[subjects.Key]amount)
	for token, u := range found {
		if want := tooMuch(u.base, b.user); want != (amount{}) {
			users[token] = want
		}
		for key, d := range u.devices {
			if want := tooMuch(d.base, b.device); want != (amount{}) {
				devices[key] = want
			}
		}
	}
	if len(users) == 0 && len(devices) == 0 {
		return nil
	}
	floor, err := s.floors(k)
	if err != nil {
		return err
	}
	var all []chunk
	for subject, chunks := range r.chunks {
		key := chunks[0].key
		if users[key.User()] == (amount{}) && devices[key] == (amount{}) && k != Topic {
			continue
		}
		floor, err := floor(subject, key)
		if err != nil {
			return err
		}
		for _, c := range chunks {
			if c.last > floor {
				break
			}
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b chunk) int { return cmp.Compare(a.last, b.last) })
	return s.remove(k, all, found, users, devices)
}

// remove purges the oldest chunks of those who have too much, and takes them from
// what was found.
func (s *Shares) remove(k Kind, all []chunk, found map[string]*user, users map[string]amount, devices map[subjects.Key]amount) error {
	cuts := make(map[string]uint64)
	for _, c := range all {
		token := c.key.User()
		if users[token] == (amount{}) && devices[c.key] == (amount{}) {
			continue
		}
		cuts[c.subject] = c.last
		users[token], devices[c.key] = users[token].minus(c.size), devices[c.key].minus(c.size)
		u := found[token]
		u.base = u.base.minus(c.size)
		if d := u.devices[c.key]; d != nil {
			d.base = d.base.minus(c.size)
		}
	}
	if len(cuts) == 0 {
		return nil
	}
	stream, err := s.js.Stream(s.ctx, infos[k].stream)
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	for subject, last := range cuts {
		if err := stream.Purge(s.ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(last+1)); err != nil {
			return fmt.Errorf("share: remove the oldest of %s: %w", subject, err)
		}
	}
	s.log.Debug("the oldest made room in a share", "store", k.String(), "subjects", len(cuts))
	return nil
}

// floors returns what says, of a subject and its device, up to which sequence
// nobody waits for what is on it.
func (s *Shares) floors(k Kind) (func(subject string, key subjects.Key) (uint64, error), error) {
	all := uint64(math.MaxUint64) // of topics: as with retention, nobody is waited for
	var err error
	switch k {
	case Up:
		all, err = s.consumed()
	case Inbox:
		cursors, err := s.js.Stream(s.ctx, layout.StreamCursor)
		if err != nil {
			return nil, fmt.Errorf("share: %w", err)
		}
		return func(subject string, key subjects.Key) (uint64, error) { return s.ackFloor(cursors, subject, key) }, nil
	case Later, Topic, Route, Task, kinds:
	}
	return func(string, subjects.Key) (uint64, error) { return all, nil }, err
}

// ackFloor is the sequence up to which a device has acknowledged all of a lane.
func (s *Shares) ackFloor(cursors jetstream.Stream, subject string, key subjects.Key) (uint64, error) {
	_, lane, _ := subjects.ParseInbox(subject)
	msg, err := cursors.GetLastMsgForSubject(s.ctx, layout.Cursor(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("share: cursor of %s: %w", key, err)
	}
	c, err := inbox.ParseCursor(msg.Data)
	if err != nil {
		return 0, nil //nolint:nilerr // everything counts as unacknowledged then
	}
	return c.AckFloor(lane), nil
}

// consumed is the sequence up to which every consumer of what goes to services
// has acknowledged; 0 where there is none, since who listens without is not
// known.
func (s *Shares) consumed() (uint64, error) {
	stream, err := s.js.Stream(s.ctx, subjects.StreamUp)
	if err != nil {
		return 0, fmt.Errorf("share: %w", err)
	}
	floor, some := uint64(math.MaxUint64), false
	list := stream.ListConsumers(s.ctx)
	for c := range list.Info() {
		if c.Config.AckPolicy == jetstream.AckNonePolicy {
			continue
		}
		some = true
		if c.NumPending > 0 || c.NumAckPending > 0 {
			floor = min(floor, c.AckFloor.Stream)
		}
	}
	if err := list.Err(); err != nil {
		return 0, fmt.Errorf("share: consumers of %s: %w", subjects.StreamUp, err)
	}
	if !some {
		return 0, nil
	}
	return floor, nil
}
