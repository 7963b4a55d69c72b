package testkit

import (
	"time"

	"go.uber.org/goleak"
)

// VerifyTestMain runs the tests and fails when goroutines are left after
// [Patience]. goleak itself gives them half a second to end, and what was stopped
// may take longer on a busy machine.
func VerifyTestMain(m goleak.TestingM, options ...goleak.Option) {
	goleak.VerifyTestMain(settling{m, options}, options...)
}

// settling are tests whose goroutines end a while after them.
type settling struct {
	tests   goleak.TestingM
	options []goleak.Option
}

// Run implements goleak.TestingM.
func (s settling) Run() int {
	code := s.tests.Run()
	for deadline := time.Now().Add(Patience); code == 0 && time.Now().Before(deadline); {
		if goleak.Find(s.options...) == nil { // it waits for a while
			break
		}
	}
	return code
}
