package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestServeGivesEachTypeToItsHandler(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		as := func(typ string, payload any) map[string]any { return map[string]any{"type": typ, "payload": payload} }
		p.send(
			changed(note(1), as("temperature", map[string]any{"celsius": 21.5})),
			changed(note(2), as("temperature", "warm")), // cannot be read
			changed(note(3), as("alarm", 1)),
			changed(note(4), as("unknown", 1)),
		)
		reasons := p.readAcks([]uint64{1, 3}, 2, 4)
		if !strings.HasPrefix(reasons[0], "payload: ") || !strings.Contains(reasons[1], "unknown") {
			t.Errorf("refused because of %q", reasons)
		}
		p.drain()
	})
	type temperature struct{ Celsius float64 }
	discarded := make(chan error, 4)
	c := dial(t, url, client.Options{OnDiscard: func(m *client.Message, why error) {
		if m.Seq != 2 && m.Seq != 4 {
			t.Errorf("message %d was discarded: %v", m.Seq, why)
		}
		discarded <- why
	}})
	got := make(chan float64, 4)
	client.HandleJSON(c, "temperature", func(_ context.Context, v temperature, m *client.Message) error {
		if m.Seq != 1 {
			t.Errorf("message %d", m.Seq)
		}
		got <- v.Celsius
		return nil
	})
	alarm := make(chan uint64, 4)
	c.Handle("alarm", func(_ context.Context, m *client.Message) error {
		alarm <- m.Seq
		return nil
	})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- c.Serve(ctx) }()
	if v := testkit.Await(t, "the temperature", got); v != 21.5 {
		t.Errorf("%v degrees", v)
	}
	if seq := testkit.Await(t, "the alarm", alarm); seq != 3 {
		t.Errorf("alarm %d", seq)
	}
	for range 2 {
		if why := testkit.Await(t, "what is refused", discarded); errors.Is(why, client.ErrDiscard) {
			t.Errorf("refused because of %v", why)
		}
	}
	cancel()
	if err := testkit.Await(t, "the end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// TestFailedMessageIsHandedOnAgain has no second connection: the client itself
// tries again.
func TestFailedMessageIsHandedOnAgain(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		p.send(note(1), note(2))
		p.acks(2, 1)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	ctx, cancel := context.WithCancel(testkit.Soon(t))
	var seqs []uint64
	c.Handle("", func(_ context.Context, m *client.Message) error {
		seqs = append(seqs, m.Seq)
		if len(seqs) == 1 {
			return errors.New("not now")
		}
		if len(seqs) == 3 {
			if !m.Redelivered {
				t.Error("the second try is not redelivered")
			}
			cancel()
		}
		return nil
	})
	_ = c.Serve(ctx)
	if len(seqs) != 3 || seqs[0] != 1 || seqs[1] != 2 || seqs[2] != 1 {
		t.Errorf("handled %v", seqs)
	}
}
