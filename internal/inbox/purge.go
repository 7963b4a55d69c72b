package inbox

import (
	"encoding/json"

	"github.com/rccs-io/rccs/subjects"
)

// purged is what is stored under [subjects.Purged]: for each lane the sequence
// up to which it was purged last.
type purged [subjects.Lanes]uint64

// parsePurged reads what is stored; what cannot be read purges nothing.
func parsePurged(data []byte) purged {
	var p purged
	if json.Unmarshal(data, &p) != nil {
		return purged{}
	}
	return p
}
