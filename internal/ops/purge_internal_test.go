package ops

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A removal that takes a server long is asked for again, and the first answer counts:
// what the second one finds removed already is no part of it.
func TestARemovalThatTakesLongIsWaitedFor(t *testing.T) {
	t.Parallel()
	nc := natstest.Server(t).Conn(t)
	var first atomic.Pointer[nats.Msg]
	if _, err := nc.Subscribe("remove", func(m *nats.Msg) {
		if first.CompareAndSwap(nil, m) {
			return
		}
		_ = first.Load().Respond([]byte("5 removed")) // it was not given up
		_ = m.Respond([]byte("0 removed"))
	}); err != nil {
		t.Fatal(err)
	}
	answer, err := askAgain(testkit.Soon(t), nc, "remove", nil, 50*time.Millisecond)
	if err != nil || string(answer.Data) != "5 removed" {
		t.Errorf("%v, %v", answer, err)
	}
	if _, err = askAgain(testkit.Soon(t), nc, "nobody", nil, time.Minute); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("nobody answers: %v", err)
	}
}
