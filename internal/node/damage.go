package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
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
	Found    []storecheck.Damage  `json:"found"`
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
	for _, d := range list {
		if err := storeDamage(ctx, js, d); err != nil {
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
	return told()
}

func storeDamage(ctx context.Context, js jetstream.JetStream, d storecheck.Damage) error {
	cursors, err := js.Stream(ctx, layout.StreamCursor)
	if err != nil {
		return err
	}
	var all damage
	stored, err := cursors.GetLastMsgForSubject(ctx, layout.Damaged(d.Stream))
	switch {
	case err == nil:
		_ = json.Unmarshal(stored.Data, &all) // what cannot be read is replaced
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	all.Ranges = last(append(all.Ranges, d.Ranges...))
	all.Messages = last(append(all.Messages, d.Messages...))
	all.Unknown = last(append(all.Unknown, d.Unknown...))
	d.Ranges, d.Messages, d.Unknown = nil, nil, nil
	all.Found = append(all.Found, d)
	all.Found = all.Found[max(0, len(all.Found)-keptDamage):]
	body, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = js.Publish(ctx, layout.Damaged(d.Stream), body)
	return err
}
