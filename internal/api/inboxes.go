package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

// listBytes bounds the payloads of one page.
const listBytes = 8 << 20

type inboxInput struct {
	OfDevice
	Paged
	State   string `query:"state" enum:"unacknowledged,rejected,all" default:"unacknowledged" doc:"Which messages"`
	FromSeq uint64 `query:"fromSeq" doc:"The first seq of interest"`
}

type replayInput struct {
	OfDevice
	Body ReplayRequest
}

// ReplayRequest says what to deliver again: one of missed, fromSeq, since and
// id.
type ReplayRequest struct {
	Missed  bool       `json:"missed,omitempty" doc:"What the device has not acknowledged"`
	FromSeq uint64     `json:"fromSeq,omitempty" doc:"What has this seq or a higher one"`
	Since   string     `json:"since,omitempty" maxLength:"64" doc:"What was stored since: a duration such as 1h or 30d, or a time of RFC 3339"`
	ID      string     `json:"id,omitempty" maxLength:"128" doc:"The messages of this id"`
	To      *DeviceRef `json:"to,omitempty" doc:"The device that gets the copies; by default the same"`
	DryRun  bool       `json:"dryRun,omitempty" doc:"Count, and store nothing"`
}

// DeviceRef names a device.
type DeviceRef struct {
	User   string `json:"user" maxLength:"128"`
	Device string `json:"device" maxLength:"128"`
}

// Replayed is what came of a replay.
type Replayed struct {
	Messages int    `json:"messages" doc:"How many were stored again, or with dryRun would be"`
	First    uint64 `json:"first,omitempty" doc:"The first seq of the copies; with dryRun of the originals"`
	Last     uint64 `json:"last,omitempty"`
}

type replayOutput struct {
	Body Replayed
}

func (a *API) registerInboxes() {
	register(a, row{
		method: http.MethodGet, path: "/v1/users/{user}/devices/{device}/inbox", id: "listInbox", tag: "Inbox", who: operators,
		summary: "List the messages of a device's inbox", description: "In the order of storage. Reading is recorded in the audit.",
		responses: map[string]*huma.Response{"200": jsonResponse(a, "A page of messages", List[InboxMessage]{})},
	}, a.listInbox)
	register(a, row{
		method: http.MethodPost, path: "/v1/users/{user}/devices/{device}/replay", id: "replay", tag: "Inbox", who: operators,
		summary:     "Deliver stored messages again",
		description: "Appends copies to the inbox of the device, or of another one, in their lanes and in their order. Recorded in the audit.",
	}, a.replay)
}

// InboxMessage is a message of an inbox.
type InboxMessage struct {
	ops.StoredMessage
	Reason     string `json:"reason,omitempty" doc:"Of a rejected message: why"`
	RejectedAt string `json:"rejectedAt,omitempty" doc:"Of a rejected message: when"`
}

func (a *API) listInbox(ctx context.Context, c *call, in *inboxInput) (*listOutput[InboxItem], error) {
	address, bad := in.address()
	if bad != nil {
		return nil, bad
	}
	from, bad := in.sequence()
	if bad != nil {
		return nil, bad
	}
	from = max(from, in.FromSeq)
	if err := c.tenant.Ops.Audit(ctx, c.record(audit.ActionRead, address.String(), "inbox")); err != nil {
		return nil, err
	}
	if in.State == ops.Rejected {
		return a.listRejected(ctx, c, address, from, in.limit())
	}
	list, next, err := c.tenant.Ops.Browse(ctx, address, ops.BrowseQuery{State: in.State, From: from, Limit: in.limit(), MaxBytes: listBytes})
	if err != nil {
		return nil, err
	}
	out := &listOutput[InboxItem]{Body: List[InboxItem]{Items: make([]InboxItem, len(list))}}
	for i, m := range list {
		out.Body.Items[i] = m
	}
	if next > 0 {
		out.Body.Next = mark(seqString(next))
	}
	return out, nil
}

func (a *API) replay(ctx context.Context, c *call, in *replayInput) (*replayOutput, error) {
	from, bad := in.address()
	if bad != nil {
		return nil, bad
	}
	b := &in.Body
	given := 0
	for _, is := range []bool{b.Missed, b.FromSeq > 0, b.Since != "", b.ID != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, badRequest("want one of missed, fromSeq, since and id")
	}
	opts := ops.ReplayOptions{From: from, FromSeq: b.FromSeq, ID: b.ID, Missed: b.Missed, DryRun: b.DryRun}
	if opts.Since, bad = a.since(b.Since); bad != nil {
		return nil, bad
	}
	to := from
	if b.To != nil {
		to = subjects.Address{User: subjects.UserID(b.To.User), Device: subjects.DeviceID(b.To.Device)}
		if err := to.Check(); err != nil {
			return nil, badRequest("to: " + err.Error())
		}
		opts.To = to
	}
	detail := "to " + to.String()
	if b.DryRun {
		detail = "dry run"
	}
	out := &replayOutput{}
	if b.DryRun {
		opts.Each = func(m *ops.Message) {
			if out.Body.First == 0 {
				out.Body.First = m.Seq
			}
			out.Body.Last = m.Seq
		}
	}
	return out, c.tenant.Ops.Act(ctx, c.record(audit.ActionReplay, from.String(), detail), func() error {
		done, err := c.tenant.Ops.Replay(ctx, opts)
		out.Body.Messages = done.Copied
		if !b.DryRun {
			out.Body.First, out.Body.Last = done.First, done.Last
		}
		return err
	})
}

// listRejected lists what the device has rejected, or could not be sent.
func (a *API) listRejected(ctx context.Context, c *call, address subjects.Address, from uint64, limit int) (*listOutput[InboxItem], error) {
	list, err := c.tenant.Ops.Rejected(ctx, subjects.Scope(address))
	if err != nil {
		return nil, err
	}
	out := &listOutput[InboxItem]{Body: List[InboxItem]{Items: []InboxItem{}}}
	for _, m := range list {
		if m.Seq < from {
			continue
		}
		if len(out.Body.Items) == limit {
			out.Body.Next = mark(seqString(m.Seq))
			break
		}
		out.Body.Items = append(out.Body.Items, m)
	}
	return out, nil
}

// InboxItem is an [ops.StoredMessage], or of rejected ones an
// [ops.RejectedMessage].
type InboxItem any
