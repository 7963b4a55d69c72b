package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A message that waited for its time when the backup was made may have been
// delivered since. It gets its sequence in the inbox only after the restore, so
// [epoch.RedeliverUpTo] does not cover it. Each such message is stored again with
// a header that says so. One that is due at this moment moves meanwhile: what is
// not marked is looked for until there is none.

// markWaiting marks all delayed messages of a tenant. read reads their stream.
func markWaiting(ctx context.Context, js jetstream.JetStream, d *direct.Client, read reader.Options) error {
	later, err := js.Stream(ctx, subjects.StreamLater)
	if err != nil {
		return fmt.Errorf("stream %s: %w", subjects.StreamLater, err)
	}
	for {
		open, err := unmarked(ctx, read)
		if err != nil {
			return err
		}
		for _, e := range open {
			if err := mark(ctx, js, d, later, e); err != nil {
				return fmt.Errorf("mark the delayed message %s as restored: %w", e.Subject, err)
			}
		}
		if len(open) == 0 {
			return nil
		}
	}
}

// unmarked returns the delayed messages that are not marked, without their data.
func unmarked(ctx context.Context, read reader.Options) (open []reader.Entry, err error) {
	read.Stream, read.FromStart, read.HeadersOnly = subjects.StreamLater, true, true
	read.Handle = func(e reader.Entry) {
		if e.Header.Get(subjects.HeaderRedelivered) == "" {
			open = append(open, e)
		}
	}
	r, err := reader.New(read)
	if err == nil {
		err = r.Start(ctx)
	}
	if err == nil {
		err = r.Stop(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subjects.StreamLater, err)
	}
	return open, nil
}

// mark stores one message again, marked. Who removes the first one has it: a
// message that has come due meanwhile is stored under another subject already.
func mark(ctx context.Context, js jetstream.JetStream, d *direct.Client, later jetstream.Stream, e reader.Entry) error {
	m, err := d.AtLeader(ctx, subjects.StreamLater, e.Subject, e.Seq)
	if err != nil || m == nil || m.Seq != e.Seq {
		return err
	}
	if err := later.DeleteMsg(ctx, e.Seq); err != nil {
		if left, lerr := d.AtLeader(ctx, subjects.StreamLater, e.Subject, e.Seq); lerr == nil && (left == nil || left.Seq != e.Seq) {
			return nil
		}
		return err
	}
	h := make(nats.Header, len(m.Header)+2)
	for key, values := range m.Header {
		if !strings.HasPrefix(key, "Nats-") || strings.HasPrefix(key, "Nats-Schedule") && !layout.IsDue(m.Subject) {
			h[key] = values
		}
	}
	if id := envelope.ID(m.Header); id != "" {
		h[subjects.HeaderID] = []string{id} // Nats-Msg-Id is known to the stream already
	}
	h[subjects.HeaderRedelivered] = []string{"true"}
	_, err = js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Header: h, Data: m.Data})
	return err
}
