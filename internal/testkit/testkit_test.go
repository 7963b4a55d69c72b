package testkit_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestWaitingEndsWhenItIsTime(t *testing.T) {
	t.Parallel()
	n := 0
	testkit.Eventually(t, "three looks", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("looked %d times", n)
	}
	c := make(chan int, 1)
	c <- 7
	if v := testkit.Await(t, "a number", c); v != 7 {
		t.Errorf("received %d", v)
	}
	deadline, ok := testkit.Soon(t).Deadline()
	if left := time.Until(deadline); !ok || left <= 0 || left > testkit.Patience {
		t.Errorf("a context that ends in %s, %v", left, ok)
	}
}
