package roster

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
	"unique"

	"github.com/rccs-io/rccs/wire"
)

// Record is what a device said of itself when it registered, as JSON in the
// devices' bucket.
type Record struct {
	Type         string          `json:"type,omitempty"`
	Platform     string          `json:"platform,omitempty"`
	Version      string          `json:"version,omitempty"`
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	// Registered is when this record was first or last changed.
	Registered time.Time `json:"registered"`

	held []string // names of the capabilities that the device holds, sorted
	// finished is closed when a record of this process is stored, or will never
	// be. It is nil in one that was read.
	finished chan struct{}
}

// same reports whether b describes the same device as r, whenever it was written.
func (r *Record) same(b *Record) bool {
	return r.Type == b.Type && r.Platform == b.Platform && r.Version == b.Version &&
		string(r.Capabilities) == string(b.Capabilities)
}

// anew returns a copy of the record, as one that this process registers now.
func (r *Record) anew() *Record {
	c := *r
	c.Registered, c.finished = time.Now().UTC(), make(chan struct{})
	return &c
}

func parseRecord(data []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("roster: device record: %w", err)
	}
	return &r, nil
}

// intern returns the one copy of a string that thousands of devices have in
// common.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

// share makes the record share memory with equal records, and sets held.
func (c *capabilities) share(r *Record) {
	r.Type, r.Platform, r.Version = intern(r.Type), intern(r.Platform), intern(r.Version)
	r.Capabilities, r.held = c.find(r.Capabilities)
}

// sharedCapabilities bounds how many different capabilities are remembered.
// Devices of one program have the same ones, so few are enough.
const sharedCapabilities = 1024

// capabilities has the capability objects that were seen, each parsed once.
type capabilities struct {
	mu   sync.Mutex
	seen map[string]parsed
}

type parsed struct {
	raw  json.RawMessage
	held []string
}

func (c *capabilities) find(raw json.RawMessage) (json.RawMessage, []string) {
	if len(raw) == 0 {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.seen[string(raw)]; ok {
		return p.raw, p.held
	}
	if c.seen == nil || len(c.seen) >= sharedCapabilities {
		c.seen = make(map[string]parsed)
	}
	p := parsed{raw: raw, held: wire.HeldCapabilities(raw)}
	c.seen[string(raw)] = p
	return p.raw, p.held
}
