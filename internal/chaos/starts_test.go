package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
)

// startsInTests is how often 'make test' kills the server; RCCS_CHAOS_STARTS is
// how often 'make chaos' does.
const startsInTests = 8

// A server that was killed while devices and services used it starts again,
// each time.
func TestServeStartsAfterEverySIGKILL(t *testing.T) {
	times := startsInTests
	if text := os.Getenv("RCCS_CHAOS_STARTS"); text != "" {
		var err error
		if times, err = strconv.Atoi(text); err != nil {
			t.Fatalf("RCCS_CHAOS_STARTS: %v", err)
		}
	}
	s := newSingle(t, t.TempDir())
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var accepted atomic.Int64
	for n := range 4 {
		a := subjects.Address{User: "alice", Device: subjects.DeviceID(fmt.Sprint("device", n))}
		c := s.device(a, client.Options{})
		go func() {
			for ctx.Err() == nil {
				if _, err := c.SendJSON(ctx, "note", 1, client.To(subjects.DeviceID(fmt.Sprint("device", (n+1)%4)))); err == nil {
					accepted.Add(1)
				}
			}
		}()
	}
	for range 8 {
		nc := s.service()
		go func() {
			for ctx.Err() == nil {
				_ = nc.Publish("rccs.inbox.alice.device0.normal", []byte("1"))
				_ = nc.FlushTimeout(time.Second)
			}
		}()
	}
	var slowest time.Duration
	for n := range times {
		before := accepted.Load()
		eventually(t, "messages are accepted", func() bool { return accepted.Load() > before+int64(rand.IntN(40)) }, new(string))
		s.signal(syscall.SIGKILL)
		began := time.Now()
		if err := s.serving(); err != nil {
			t.Fatalf("start %d: %v", n+1, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("%d starts of %d, the slowest in %.1f s", times, times, slowest.Seconds())
}
