//go:build !linux

package load

import "time"

// alarm wakes one caller when a time has come, as well as the runtime can.
type alarm struct{ ended chan struct{} }

func newAlarm() (*alarm, error) { return &alarm{ended: make(chan struct{}, 1)}, nil }

// wait returns when the time has passed, or after stop.
func (a *alarm) wait(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.ended:
		a.stop()
	}
	return nil
}

// stop ends a wait, and those to come.
func (a *alarm) stop() {
	select {
	case a.ended <- struct{}{}:
	default:
	}
}

func (a *alarm) close() {}
