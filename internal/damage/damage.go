// Package damage adds to the record of what is damaged in a stream, which is stored
// under layout.Damaged. Servers add what they find before they open their files, and
// hubs what they find while they read. Devices and, by 'rccs doctor', operators are
// told what the record says.
//
// It is a leaf: it knows the form of the record and stores nothing. All functions are
// safe for concurrent use.
package damage

import (
	"encoding/json"
	"time"
)

// Finding tells operators of damage that a hub has found. The findings of servers
// have other fields as well.
type Finding struct {
	Stream string
	At     time.Time
	First  uint64 // the first sequence that is missing, or may be
	// Unreadable: the server has the messages, and cannot read them. Otherwise the
	// stream has lost its end.
	Unreadable bool `json:",omitempty"`
}

// Message is a damaged one of which it is known whose it was.
type Message struct {
	Seq     uint64 `json:"seq"`
	Subject string `json:"subject"`
}

// Bounds of what is kept of a stream.
const (
	// maxKept is how many ranges are kept, and how many messages.
	maxKept = 4096
	// maxFound is how many findings are kept.
	maxFound = 16
)

// Record is what is stored of one stream. Members that it does not know stay as they
// are.
type Record struct {
	Ranges   [][2]uint64
	Messages []Message

	fields map[string]json.RawMessage
}

// Parse reads a stored record. What cannot be read is left out.
func Parse(stored []byte) *Record {
	r := &Record{fields: map[string]json.RawMessage{}}
	if json.Unmarshal(stored, &r.fields) != nil || r.fields == nil {
		r.fields = map[string]json.RawMessage{}
	}
	_ = json.Unmarshal(r.fields["ranges"], &r.Ranges)
	_ = json.Unmarshal(r.fields["messages"], &r.Messages)
	return r
}

// AddRange adds a range, joined with those that it meets: each device that lost
// messages of one damaged file adds its own.
func (r *Record) AddRange(one [2]uint64) {
	apart := make([][2]uint64, 0, len(r.Ranges)+1)
	for _, have := range r.Ranges {
		if have[1]+1 < one[0] || one[1]+1 < have[0] {
			apart = append(apart, have)
			continue
		}
		one = [2]uint64{min(have[0], one[0]), max(have[1], one[1])}
	}
	r.Ranges = newest(append(apart, one), maxKept)
}

// AddMessage adds a message.
func (r *Record) AddMessage(m Message) { r.Messages = newest(append(r.Messages, m), maxKept) }

// justFound is for how long a finding explains what a hub discovers.
const justFound = time.Hour

// AddFinding adds what operators are told. It adds nothing if another finding has
// just reported what explains it.
func (r *Record) AddFinding(f Finding) error {
	var all []json.RawMessage
	_ = json.Unmarshal(r.fields["found"], &all) // what cannot be read is replaced
	for _, one := range all {
		var have Finding
		if json.Unmarshal(one, &have) == nil && have.First > 0 && have.First <= f.First && time.Since(have.At) < justFound {
			return nil
		}
	}
	one, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return r.Set("found", newest(append(all, one), maxFound))
}

// AddFound adds what operators are told by another record.
func (r *Record) AddFound(of *Record) error {
	var all, more []json.RawMessage
	_ = json.Unmarshal(r.fields["found"], &all) // what cannot be read is left out
	_ = json.Unmarshal(of.fields["found"], &more)
	return r.Set("found", newest(append(all, more...), maxFound))
}

// Set replaces a member.
func (r *Record) Set(name string, value any) (err error) {
	r.fields[name], err = json.Marshal(value)
	return err
}

// Bytes returns the record in the form in which it is stored.
func (r *Record) Bytes() ([]byte, error) {
	if err := r.Set("ranges", r.Ranges); err != nil {
		return nil, err
	}
	if len(r.Messages) > 0 {
		if err := r.Set("messages", r.Messages); err != nil {
			return nil, err
		}
	}
	return json.Marshal(r.fields)
}

// newest is at most n of a list, from its end.
func newest[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }
