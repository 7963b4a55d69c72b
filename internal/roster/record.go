package roster

import (
	"encoding/json"
	"fmt"
	"time"

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
}

// same says that b describes the same device as r, whenever it was written.
func (r *Record) same(b *Record) bool {
	return r.Type == b.Type && r.Platform == b.Platform && r.Version == b.Version &&
		string(r.Capabilities) == string(b.Capabilities)
}

// held are the names of the capabilities that the device holds, sorted.
func (r *Record) held() []string { return wire.HeldCapabilities(r.Capabilities) }

func parseRecord(data []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("roster: device record: %w", err)
	}
	return &r, nil
}
