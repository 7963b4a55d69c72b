package envelope

import "time"

// SetClock has messages made as if the clock was set ahead, or not.
func SetClock(ahead bool) (restore func()) {
	before := clockSet
	clockSet = func(time.Duration) bool { return ahead }
	return func() { clockSet = before }
}
