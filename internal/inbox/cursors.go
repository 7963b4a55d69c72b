package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// ErrMoved means that somebody else has stored the cursor meanwhile: load it
// again.
var ErrMoved = errors.New("inbox: the cursor has moved meanwhile")

// Cursors reads and writes cursors without a hub. The coordinator uses it for
// devices that are connected to no edge. An edge that holds a device owns its
// cursor, and overwrites what others have stored unless that has a later epoch.
type Cursors struct {
	fetch   *direct.Client
	last    *direct.Last
	publish *Publisher
	lanes   *laneReader
	inbox   *inboxConfig
}

// NewCursors returns Cursors that reads with c and writes with p.
func NewCursors(c *direct.Client, p *Publisher) (*Cursors, error) {
	config, err := newInboxConfig(c)
	if err != nil {
		return nil, err
	}
	lanes := &laneReader{fetch: c, proof: p.Proof, log: p.log, replicas: config.replicas}
	return &Cursors{fetch: c, last: c.Last(layout.StreamCursor, false), publish: p, lanes: lanes, inbox: config}, nil
}

// Load returns the device's cursor and its revision for Store; zero values if
// there is none. A cursor that cannot be decoded counts as an empty one. Load
// adds gaps for damage that may concern the device.
func (s *Cursors) Load(ctx context.Context, key subjects.Key) (c Cursor, revision uint64, err error) {
	found, err := s.last.Get(ctx, []string{layout.Cursor(key), layout.Damaged(layout.StreamInbox)})
	if err != nil {
		return Cursor{}, 0, fmt.Errorf("inbox: load the cursor of %s: %w", key, err)
	}
	var stored time.Time
	if found[0] != nil {
		revision, stored = found[0].Seq, time.Unix(0, found[0].Time)
		if c, err = ParseCursor(found[0].Data); err != nil {
			c = Cursor{}
		}
	}
	if found[1] != nil {
		parseDamaged(found[1].Data).tell(&c, stored)
	}
	return c, revision, nil
}

// Store replaces the cursor that Load returned with revision, or returns
// [ErrMoved].
func (s *Cursors) Store(ctx context.Context, key subjects.Key, c Cursor, revision uint64) error {
	if err := s.mark(ctx, slices.Max(c.Sent[:])); err != nil {
		return err
	}
	c.tidy()
	err := s.publish.putLast(ctx, layout.Cursor(key), c.Append(nil), revision)
	if err != nil && !errors.Is(err, ErrMoved) {
		return fmt.Errorf("inbox: store the cursor of %s: %w", key, err)
	}
	return err
}

// markTries bounds how often mark tries again when others raise the watermark
// too.
const markTries = 5

// mark raises the watermark to top, if it is lower. No cursor may be stored above
// the watermark.
func (s *Cursors) mark(ctx context.Context, top uint64) error {
	for range markTries {
		found, err := s.last.Get(ctx, []string{layout.Watermark})
		if err != nil {
			return fmt.Errorf("inbox: load the watermark: %w", err)
		}
		var head, revision uint64
		if found[0] != nil {
			revision = found[0].Seq
			if head, err = parseWatermark(found[0].Data); err != nil {
				return err
			}
		}
		if head >= top {
			return nil
		}
		if err := s.publish.putLast(ctx, layout.Watermark, appendWatermark(top), revision); !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return fmt.Errorf("inbox: raise the watermark: %w", ErrMoved)
}

// putLast stores one message if revision is still the last of its subject.
// Otherwise it returns ErrMoved.
func (p *Publisher) putLast(ctx context.Context, subject string, data []byte, revision uint64) error {
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(revision, 10)},
	}}
	err := p.wait(ctx, m)
	if storeerr.Lost(err) {
		return ErrMoved
	}
	return err
}

// Unacked returns how many stored messages the cursor leaves unacknowledged.
func (s *Cursors) Unacked(ctx context.Context, key subjects.Key, c *Cursor) (int, error) {
	return unackedStored(ctx, s.fetch, key, c)
}

// Recipients is [Hub.Recipients].
func (s *Cursors) Recipients(ctx context.Context, seq uint64) ([]Recipient, error) {
	return recipients(ctx, s.fetch, seq)
}
