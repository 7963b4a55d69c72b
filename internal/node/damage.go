package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/storecheck"
	"github.com/rccs-io/rccs/subjects"
)

// keptDamage is how many findings are kept of a stream, and keptRanges how many
// ranges of sequences.
const (
	keptDamage = 16
	keptRanges = 4096
)

// damage is what is stored under [layout.Damaged]. 'rccs doctor' reads the
// findings, and edges the rest.
type damage struct {
	Ranges [][2]uint64 `json:"ranges"`
	// Messages are those of the ranges whose devices are known, and Unknown are
	// the others.
	Messages []storecheck.Message `json:"messages,omitempty"`
	Unknown  [][2]uint64          `json:"unknown,omitempty"`
	// Doubts are, of Unknown, what no cursor counts.
	Doubts []inbox.Doubt `json:"doubts,omitempty"`
	// Found are those of this server and of others, and of hubs.
	Found []json.RawMessage `json:"found"`
}

// last is at most [keptRanges] of a list, the newest.
func last[T any](list []T) []T { return list[max(0, len(list)-keptRanges):] }

// tellDamage stores what this server found damaged in the tenant's streams, so
// that edges tell the devices that lost something.
func (n *Node) tellDamage(ctx context.Context, js jetstream.JetStream, keys *auth.Keystore) error {
	list, told, err := storecheck.Untold(n.opts.Data, keys.Account().PublicKey)
	if err != nil {
		return err
	}
	for _, s := range shard.All(keys.Shards()) {
		if err := tellShard(ctx, s, js, damageOf(s, list)); err != nil {
			return err
		}
	}
	return told()
}

// damageOf returns what was found in a shard's streams, named as in package layout.
// The tenant's own streams are with its first shard.
func damageOf(s shard.Shard, list []storecheck.Damage) (own []storecheck.Damage) {
	for _, d := range list {
		name, ok := s.PlainStream(d.Stream)
		if ok && (shard.Divided(name) || s.N() == 0) {
			d.Stream = name
			own = append(own, d)
		}
	}
	return own
}

func tellShard(ctx context.Context, s shard.Shard, js jetstream.JetStream, list []storecheck.Damage) error {
	js = s.JetStream(js)
	lost := func(stream string) bool {
		return slices.ContainsFunc(list, func(d storecheck.Damage) bool { return d.Stream == stream && len(d.Ranges) > 0 })
	}
	cursors := lost(layout.StreamCursor)
	for _, d := range list {
		if err := storeDamage(ctx, js, d, cursors); err != nil {
			return fmt.Errorf("node: damage of %s: %w", d.Stream, err)
		}
		if err := tellWaiting(ctx, s, js, d); err != nil {
			return fmt.Errorf("node: damage of %s: %w", d.Stream, err)
		}
		if d.Repeat && (d.Stream == layout.StreamInbox || d.Stream == subjects.StreamTopic) {
			if err := epoch.Renew(ctx, js, d.Stream); err != nil {
				return err
			}
		}
		if d.Stream == layout.StreamCursor && len(d.Ranges) > 0 {
			if err := epoch.Redeliver(ctx, js, layout.StreamInbox); err != nil {
				return err
			}
		}
	}
	if lost(layout.StreamDeadline) { // after what needs the mark as it was
		if _, err := js.Publish(ctx, layout.Counted, inbox.NothingCounted()); err != nil {
			return fmt.Errorf("node: damage of %s: %w", layout.StreamDeadline, err)
		}
	}
	return nil
}

// tellWaiting tells services, and devices that asked, of the messages that waited
// for their time or for a suitable device and that are gone. What was due is passed
// over: the inbox stream takes it in within moments.
func tellWaiting(ctx context.Context, s shard.Shard, js jetstream.JetStream, d storecheck.Damage) error {
	if d.Stream != subjects.StreamLater && d.Stream != layout.StreamRoute {
		return nil
	}
	key, err := proof.Load(ctx, js)
	if err != nil {
		return err
	}
	doubtful := make(map[uint64]struct{}, len(d.Doubtful))
	for _, m := range d.Doubtful {
		doubtful[m.Seq] = struct{}{}
	}
	for _, m := range slices.Concat(d.Messages, d.Doubtful) {
		if m.Removed || layout.IsDue(m.Subject) {
			continue
		}
		header, _ := nats.DecodeHeadersMsg(m.Header) // nil: it is damaged, or there is none
		s.PlainHeader(m.Subject, header)
		_, doubt := doubtful[m.Seq]
		w := inbox.Waiting{Stream: d.Stream, Subject: m.Subject, Seq: m.Seq, Header: header, Certain: !doubt}
		told, err := w.Damaged(key)
		if err != nil {
			return err
		}
		for _, msg := range told {
			if _, err := js.PublishMsg(ctx, msg); err != nil {
				return fmt.Errorf("tell of message %d: %w", m.Seq, err)
			}
		}
	}
	return nil
}

// storeDamage adds what was found in a stream to what is stored. lost says that
// cursors are among what is gone.
func storeDamage(ctx context.Context, js jetstream.JetStream, d storecheck.Damage, lost bool) error {
	cursors, err := js.Stream(ctx, layout.StreamCursor)
	if err != nil {
		return err
	}
	var all damage
	stored, err := lastOf(ctx, cursors, layout.Damaged(d.Stream))
	if err != nil {
		return err
	}
	_ = json.Unmarshal(stored, &all) // what cannot be read is replaced
	if d.Stream == layout.StreamInbox {
		counted := uint64(0)
		if stored, err = lastOf(ctx, cursors, layout.Counted); err != nil {
			return err
		}
		if len(stored) > 0 && !lost {
			if counted, err = inbox.ParseCounted(stored); err != nil {
				return err
			}
		}
		all.Doubts = last(inbox.AddDoubts(all.Doubts, d.Unknown, counted, d.At, d.Repeat))
	}
	all.Ranges = last(append(all.Ranges, d.Ranges...))
	for _, m := range d.Messages {
		all.Messages = append(all.Messages, storecheck.Message{Seq: m.Seq, Subject: m.Subject})
	}
	all.Messages = last(all.Messages)
	all.Unknown = last(append(all.Unknown, d.Unknown...))
	d.Ranges, d.Messages, d.Unknown, d.Doubtful = nil, nil, nil, nil
	found, err := json.Marshal(&d)
	if err != nil {
		return err
	}
	all.Found = append(all.Found, found)
	all.Found = all.Found[max(0, len(all.Found)-keptDamage):]
	body, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = js.Publish(ctx, layout.Damaged(d.Stream), body)
	return err
}

// lastOf is the last message of a subject; nil when there is none.
func lastOf(ctx context.Context, s jetstream.Stream, subject string) ([]byte, error) {
	msg, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}
