package inbox

import "time"

// A busy machine may stall for longer than the store may in earnest.
func init() { publishTimeout = time.Minute }
