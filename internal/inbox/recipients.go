package inbox

import (
	"context"
	"fmt"
	"strings"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Recipient is a device that a message was stored for.
type Recipient struct {
	Key subjects.Key
	Seq uint64
}

// Recipients returns the devices that got the message whose first copy is seq. If
// that copy names them, only the first has a sequence; the others have 0.
// Otherwise they are those of the copies that follow with the same id, of the
// same sender and to devices of the same user. A publish that turns out to be a
// repeat was stored for the recipients of the original.
func (h *Hub) Recipients(ctx context.Context, seq uint64) ([]Recipient, error) {
	return recipients(ctx, h.fetch, seq)
}

func recipients(ctx context.Context, fetch *direct.Client, seq uint64) ([]Recipient, error) {
	var all []Recipient
	var id, from string
	for {
		got, err := fetch.Run(ctx, layout.StreamInbox, seq+uint64(len(all)), recipientsBatch)
		if err != nil {
			return nil, err
		}
		for _, m := range got {
			key, _, ok := subjects.ParseInbox(m.Subject)
			if names := m.Header.Get(layout.HeaderCopies); len(all) == 0 && ok && m.Seq == seq && names != "" {
				return namedCopies(key, seq, names), nil
			}
			thisID, thisFrom := m.Header.Get(subjects.HeaderID), m.Header.Get(subjects.HeaderFrom)
			switch {
			case m.Seq != seq+uint64(len(all)), !ok, len(all) > 0 && (thisID != id || thisFrom != from || key.User() != all[0].Key.User()):
				return all, gone(all, seq) // ids and devices are a user's: what is next to it may be another user's
			}
			id, from = thisID, thisFrom
			all = append(all, Recipient{key, m.Seq})
		}
		if len(got) < recipientsBatch {
			return all, gone(all, seq)
		}
	}
}

// namedCopies returns the recipients that a first copy names. Where the other
// copies are stored is not known.
func namedCopies(first subjects.Key, seq uint64, names string) []Recipient {
	var all []Recipient
	for n, name := range strings.Fields(names) {
		to := Recipient{Key: subjects.Key(first.User() + "." + name)}
		if n == 0 {
			to.Seq = seq
		}
		all = append(all, to)
	}
	return all
}

// recipientsBatch is how many messages are read at a time to find a message's
// recipients. Most users have fewer devices.
const recipientsBatch = 16

func gone(found []Recipient, seq uint64) error {
	if len(found) == 0 {
		return fmt.Errorf("inbox: message %d is gone", seq)
	}
	return nil
}
