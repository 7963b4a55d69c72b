package wake_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/wake"
)

// Nobody waits for the goroutine that is woken, and it looks once when it is woken twice.
func TestSignalGivenTwiceWakesOnce(t *testing.T) {
	t.Parallel()
	s := wake.New()
	s.Set()
	s.Set()
	<-s
	select {
	case <-s:
		t.Error("woken again")
	default:
	}
	s.Set()
	<-s
}
