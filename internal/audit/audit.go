package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
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
	ActionRequest  = "request" // of a service over HTTP, to which it has no right
	ActionTenant   = "tenant"  // added, changed or removed; with the default tenant
)

// Actions are all of them.
func Actions() []string {
	return []string{
		ActionRevoke, ActionUnrevoke, ActionReplay, ActionRead, ActionPurge, ActionForget, ActionDrain, ActionBackup, ActionEnroll,
		ActionRequest, ActionTenant,
	}
}

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
	// Result is how it ended: one of the results.
	Result string `json:"result"`
	// Why says so of what was refused or failed.
	Why string `json:"why,omitempty"`
	// Seq is that of the stored record.
	Seq uint64 `json:"seq,omitempty"`

	// Open marks a record that was stored before the act: another one says how
	// that ended.
	Open bool `json:"open,omitempty"`
	// Ends is, in that other one, the sequence of the first.
	Ends uint64 `json:"ends,omitempty"`
}

// IsEnd reports whether a record tells the end of an act recorded before it.
func (r *Record) IsEnd() bool { return r.Ends != 0 && r.Ends < r.Seq }

// How an act ended.
const (
	ResultDone    = "done"
	ResultRefused = "refused" // nothing was done, on purpose
	ResultFailed  = "failed"  // all, some or nothing was done
)

// ErrRefused is wrapped by the error of an act that was refused.
var ErrRefused = errors.New("refused")

// Refused marks an error as the refusal of an act. Its text stays.
func Refused(err error) error {
	if err == nil {
		return nil
	}
	return &refusal{err}
}

type refusal struct{ err error }

func (r *refusal) Error() string        { return r.err.Error() }
func (r *refusal) Unwrap() error        { return r.err }
func (r *refusal) Is(target error) bool { return target == ErrRefused }

// Write stores the record of an act that was done, or, where the record says so,
// refused or failed, and returns when it is stored. It gets the present time if
// it has none.
func Write(ctx context.Context, js jetstream.JetStream, r Record) error {
	if r.Result == "" {
		r.Result = ResultDone
	}
	_, err := store(ctx, js, r)
	return err
}

// endTimeout bounds the storing of how an act ended, which goes on when ctx has
// ended.
const endTimeout = 5 * time.Second

// Do records an act, does it, and records how it ended. An act whose record
// cannot be stored is not done. The error is that of the act.
func Do(ctx context.Context, js jetstream.JetStream, r Record, act func() error) error {
	return DoAndEnd(ctx, js, func() jetstream.JetStream { return js }, r, act)
}

// DoAndEnd is Do for an act after which js may not be of use any more: how it
// ended is stored by what last returns.
func DoAndEnd(
	ctx context.Context, js jetstream.JetStream, last func() jetstream.JetStream, r Record, act func() error,
) error {
	r.Open = true
	seq, err := store(ctx, js, r)
	if err != nil {
		return err
	}
	err = act()
	endErr := storeEnd(ctx, last(), r.Action, seq, err)
	if endErr != nil && err != nil {
		return errors.Join(err, endErr) // what was done stays done: a failed record says less
	}
	return err
}

// DoInto is Do for an act whose result holds the record itself, as a backup does.
// The record says that the act was done; a failure is recorded behind it.
func DoInto(ctx context.Context, js jetstream.JetStream, r Record, act func() error) error {
	r.Result = ResultDone
	seq, err := store(ctx, js, r)
	if err != nil {
		return err
	}
	if err = act(); err == nil {
		return nil
	}
	return errors.Join(err, storeEnd(ctx, js, r.Action, seq, err))
}

// storeEnd records how the act of an earlier record ended.
func storeEnd(ctx context.Context, js jetstream.JetStream, action string, seq uint64, err error) error {
	end := Record{Action: action, Ends: seq, Result: resultOf(err)}
	if err != nil {
		end.Why = err.Error()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_, err = store(ctx, js, end)
	return err
}

// resultOf is the result of an act that ended with err.
func resultOf(err error) string {
	switch {
	case err == nil:
		return ResultDone
	case errors.Is(err, ErrRefused):
		return ResultRefused
	}
	return ResultFailed
}

func store(ctx context.Context, js jetstream.JetStream, r Record) (seq uint64, err error) {
	if r.At.IsZero() {
		r.At = time.Now().UTC()
	}
	body, err := json.Marshal(&r)
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	ack, err := js.PublishMsg(ctx, &nats.Msg{Subject: layout.Audit(r.Action), Data: body})
	if err != nil {
		return 0, fmt.Errorf("audit: the record of %q was not stored, so it is not done: %w", r.Action, err)
	}
	return ack.Sequence, nil
}

// Merge are the acts that stored records tell of, oldest first, each with its
// end. Of one whose end was never recorded it is said that it failed.
func Merge(stored []Record) []Record {
	ends := map[uint64]Record{}
	for _, r := range stored {
		if r.IsEnd() && ends[r.Ends].Seq == 0 { // what was said first counts
			ends[r.Ends] = r
		}
	}
	acts := make([]Record, 0, len(stored))
	for _, r := range stored {
		if r.IsEnd() {
			continue
		}
		if end, ended := ends[r.Seq]; ended {
			r.Result, r.Why = end.Result, end.Why
		} else if r.Open {
			r.Result, r.Why = ResultFailed, "how it ended was not recorded"
		}
		if r.Result == "" {
			r.Result = ResultDone // of an earlier version
		}
		r.Open = false
		acts = append(acts, r)
	}
	return acts
}

// unreadable is the action of what is in the record and is no act.
const unreadable = "unreadable"

// Parse reads a stored record. One that cannot be read is listed as such: whoever
// has the credential of a part can store anything, and hides no other by it.
func Parse(data []byte, seq uint64, stored time.Time) Record {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		r = Record{At: stored, Action: unreadable, Result: ResultFailed, Why: "this is no record: " + err.Error()}
	}
	r.Seq = seq
	return r
}
