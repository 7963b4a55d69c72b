package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/subjects"
)

// Actions that are recorded.
const (
	ActionRevoke   = "revoke"
	ActionUnrevoke = "unrevoke"
	ActionReplay   = "replay"
	ActionRead     = "read" // of messages of a device: missed, tail, trace
	ActionPurge    = "purge"
	ActionForget   = "forget"
	ActionDrain    = "drain"
	ActionBackup   = "backup"
	ActionEnroll   = "enroll"
	ActionTenant   = "tenant" // added, changed or removed; with the default tenant
)

// Record is one act.
type Record struct {
	At time.Time `json:"at"`
	// Action is one of the constants above.
	Action string `json:"action"`
	// Who did it: the operating system's user, or the name in a credential.
	Who string `json:"who"`
	// From is the host, or the address, that it came from.
	From string `json:"from"`
	// Target is what it was done to: USER/DEVICE, USER, an edge, or empty for
	// all.
	Target string `json:"target,omitempty"`
	// Detail is the command, or what else tells it from others.
	Detail string `json:"detail,omitempty"`
	// Seq is that of the stored record.
	Seq uint64 `json:"seq,omitempty"`
}

// Write stores a record, with the present time if it has none, and returns when
// that is done.
func Write(ctx context.Context, js jetstream.JetStream, r Record) error {
	if r.At.IsZero() {
		r.At = time.Now().UTC()
	}
	body, err := json.Marshal(&r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: subjects.Audit(r.Action), Data: body}); err != nil {
		return fmt.Errorf("audit: the record of %q was not stored, so it is not done: %w", r.Action, err)
	}
	return nil
}

// Parse reads a stored record.
func Parse(data []byte, seq uint64) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("audit: record %d: %w", seq, err)
	}
	r.Seq = seq
	return r, nil
}
