package inbox

import "time"

// On a busy machine the store may take longer than in earnest, and what a test waits
// for comes one after the other.
func init() { publishTimeout = 10 * time.Minute }
