package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

// TestCredentialIsRenewedOnTheLiveConnection has a credential of ten seconds,
// whose first renewal is refused.
func TestCredentialIsRenewedOnTheLiveConnection(t *testing.T) {
	t.Parallel()
	renewed := make(chan struct{})
	until := func(d time.Duration) string { return wire.FormatTime(time.Now().Add(d)) }
	url := serve(t, func(p *peer) {
		p.registered(func(r *wire.Registered) { r.ServerTime, r.ExpiresAt = until(0), until(10*time.Second) })
		for n := 2; n <= 3; n++ {
			e := p.want(wire.TypeRegister)
			r, err := wire.DecodeRegister(e.Payload)
			if err != nil || r.AuthToken != fmt.Sprintf("token-%d", n) || r.Sig == "" {
				t.Errorf("renewal %d with %+v, %v", n, r, err)
			}
			if n == 2 {
				p.refuse(e, wire.Unavailable)
				continue
			}
			answer := wire.Registered{SessionID: "session-0", ServerTime: until(0), ExpiresAt: until(time.Hour), OriginalMessageID: e.ID}
			p.send(string(answer.Append(nil)), note(1))
		}
		p.acks(1)
		close(renewed)
		p.drain()
	})
	asked := 0
	c := dial(t, url, client.Options{Credentials: func(context.Context) (string, client.Signer, error) {
		asked++
		return fmt.Sprintf("token-%d", asked), func(nonce []byte) ([]byte, error) { return append([]byte("signed "), nonce...), nil }, nil
	}})
	receive(t, c, 1).Ack()
	testkit.Await(t, "the renewal", renewed)
	late := time.After(testkit.Patience)
	for { // the message that followed the answer may be received before that is dealt with
		s := c.Session()
		if time.Until(s.Expires) > 50*time.Minute && s.ID == "session-0" && s.Connected {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatalf("session %+v", s)
		}
	}
}
