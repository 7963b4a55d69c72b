package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// forgetForService answers {"user","device"} with {"user","device","messages"}
// when the device, its session, its inbox, the messages scheduled for it and the
// tasks that it held are gone. Disconnect a connected device first: otherwise it
// registers again.
func (c *Coordinator) forgetForService(ctx context.Context, req *request) (any, *wire.Error) {
	return c.forgetDevice(ctx, req, func(a subjects.Address, act func() error) error {
		return audit.Do(ctx, c.js, c.byService(req, audit.ActionForget, a, ""), act)
	})
}

// forgetForPart is the same for RCCS itself: what an operator does is recorded
// where it is asked for, by the operator's name.
func (c *Coordinator) forgetForPart(ctx context.Context, req *request) (any, *wire.Error) {
	return c.forgetDevice(ctx, req, func(_ subjects.Address, act func() error) error { return act() })
}

func (c *Coordinator) forgetDevice(ctx context.Context, req *request, recorded func(subjects.Address, func() error) error) (any, *wire.Error) {
	a, werr := req.device()
	if werr != nil {
		return nil, werr
	}
	var n uint64
	err := recorded(a, func() (err error) {
		if n, err = c.forget(ctx, a); errors.Is(err, ops.ErrUnknownDevice) {
			err = audit.Refused(err)
		}
		return err
	})
	if err != nil {
		return nil, c.wireError("device not forgotten", err)
	}
	c.log.Info("device forgotten", "user", a.User, "device", a.Device, "messages", n)
	return struct {
		deviceName
		Messages uint64 `json:"messages"`
	}{deviceName{string(a.User), string(a.Device)}, n}, nil
}

// forget removes the record first, so that nothing new is sent to the device. It
// moves the cursor to the end instead of removing it: edges remember the most
// recent messages, and without the cursor would take them for unacknowledged.
func (c *Coordinator) forget(ctx context.Context, a subjects.Address) (messages uint64, err error) {
	k := a.Key()
	_, known := c.roster.Device(k)
	if known {
		done := make(chan error, 1)
		c.roster.Forget(k, func(err error) { done <- err })
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return 0, fmt.Errorf("coordinator: forget %s: %w", a, err)
		}
	}
	// Without its record and its messages a device is unknown, and cannot be forgotten
	// once more. So what else is its goes first.
	if err := c.forgetTasks(ctx, a); err != nil {
		return 0, err
	}
	// What is due meanwhile is purged with the inbox.
	if err := c.cancelDelayed(ctx, k); err != nil {
		return 0, err
	}
	messages, err = c.ops.Purge(ctx, a, ops.PurgeOptions{Forget: true})
	switch {
	case errors.Is(err, ops.ErrUnknownDevice) && known:
		err = nil
	case err != nil:
		return messages, err
	}
	if err := c.purge(ctx, layout.StreamDeadline, layout.Deadline(k)); err != nil {
		return messages, err
	}
	return messages, c.ackAll(ctx, k)
}

// cancelsAtOnce is how many delayed messages of a device are cancelled at a time.
const cancelsAtOnce = 64

// cancelDelayed cancels the delayed messages of a device, and tells the senders that
// asked. One that may be on its way is settled later, like any that is cancelled when
// it comes due.
func (c *Coordinator) cancelDelayed(ctx context.Context, k subjects.Key) error {
	var waiting []*inbox.Waiting
	r, err := reader.New(reader.Options{
		Conn: c.direct.Conn(), Stream: subjects.StreamLater, Shard: c.opts.Shard, FromStart: true, Filter: []string{layout.DeviceLater(k)}, HeadersOnly: true, Logger: c.log,
		Handle: func(e reader.Entry) {
			if !inbox.Ended(c.pub.Proof, &e) {
				waiting = append(waiting, &inbox.Waiting{Stream: subjects.StreamLater, Subject: e.Subject, Seq: e.Seq, Header: e.Header})
			}
		},
	})
	if err == nil {
		err = r.Start(ctx)
	}
	if err == nil {
		err = r.Stop(ctx)
	}
	if err != nil {
		return fmt.Errorf("coordinator: read the delayed messages of %s: %w", k, err)
	}
	later, err := c.js.Stream(ctx, subjects.StreamLater)
	if err != nil {
		return fmt.Errorf("coordinator: stream %s: %w", subjects.StreamLater, err)
	}
	for some := range slices.Chunk(waiting, cancelsAtOnce) {
		failed := make([]error, len(some))
		var cancels sync.WaitGroup
		for i, w := range some {
			cancels.Go(func() { failed[i] = c.cancelOne(ctx, later, w) })
		}
		cancels.Wait()
		if err := cmp.Or(failed...); err != nil {
			return fmt.Errorf("coordinator: cancel a delayed message of %s: %w", k, err)
		}
	}
	return nil
}

// cancelOne cancels a delayed message and tells its sender, unless the message has come
// due or may be on its way.
func (c *Coordinator) cancelOne(ctx context.Context, later jetstream.Stream, w *inbox.Waiting) error {
	mark, certain, err := w.Cancel(ctx, c.js, c.direct, c.pub.Proof)
	if err != nil || !certain {
		return err
	}
	if msg := w.Purged(c.pub.Proof); msg != nil {
		if _, err := c.store(ctx, msg); err != nil {
			return err
		}
	}
	return c.remove(ctx, later, mark)
}

// ackAll moves a device's cursor to the end of the stream.
func (c *Coordinator) ackAll(ctx context.Context, k subjects.Key) error {
	info, err := leader.Info(ctx, c.js, layout.StreamInbox)
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	var end inbox.Cursor
	for lane := range end.Sent {
		end.Sent[lane] = info.State.LastSeq
	}
	for {
		cursor, revision, err := c.cursors.Load(ctx, k)
		if err != nil {
			return err
		}
		end.Doubted = cursor.Doubted
		if err := c.cursors.Store(ctx, k, end, revision); !errors.Is(err, inbox.ErrMoved) {
			return err
		}
	}
}

func (c *Coordinator) purge(ctx context.Context, stream, subject string) error {
	s, err := c.js.Stream(ctx, stream)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(subject))
	}
	if err != nil {
		return fmt.Errorf("coordinator: purge %s: %w", subject, err)
	}
	return nil
}

// forgetTasks takes the tasks that the device holds from it. They then have no
// device.
func (c *Coordinator) forgetTasks(ctx context.Context, a subjects.Address) error {
	keys, err := c.tasks.KV.ListKeysFiltered(ctx, layout.UserEntries(a.User))
	if err != nil {
		return fmt.Errorf("coordinator: list tasks: %w", err)
	}
	defer func() { _ = keys.Stop() }()
	for entry := range keys.Keys() {
		t, err := c.tasks.Entry(ctx, entry)
		if err != nil {
			return err
		}
		if t.Revision == 0 || t.To() != a.Device {
			continue
		}
		if err := c.tasks.KV.Delete(ctx, entry, jetstream.LastRevision(t.Revision)); err != nil && !storeerr.Lost(err) {
			return fmt.Errorf("coordinator: forget a task: %w", err)
		}
	}
	return nil
}
