package inbox_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
)

// A stream that changes its leader may lose what is under way, while the
// connection stays and other streams answer.
func TestWhatIsNotAcknowledgedIsSentAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	var lost []string // only the subscription's goroutine
	sub, err := s.nc.Subscribe("lossy.*", func(m *nats.Msg) {
		if lost = append(lost, m.Subject); len(lost) <= 3 {
			return
		}
		_ = m.Respond([]byte(`{"stream":"LOSSY","seq":1}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 3)
	for _, name := range []string{"lossy.a", "lossy.b", "lossy.c"} {
		s.pub.Publish(&nats.Msg{Subject: name}, func(r inbox.Receipt, err error) {
			if err != nil || r.Seq != 1 || r.Free { // the second may be on its way
				t.Errorf("%s: %+v, %v", name, r, err)
			}
			done <- name
		})
	}
	s.put(phone, 1, 0, 1) // another stream answers meanwhile
	for _, want := range []string{"lossy.a", "lossy.b", "lossy.c"} {
		select {
		case got := <-done:
			if got != want {
				t.Errorf("%s was answered, want %s", got, want)
			}
		case <-time.After(waitTimeout):
			t.Fatal("never sent again")
		}
	}
}

func TestMessageThatWasSentOnceIsFree(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	landed := make(chan inbox.Receipt, 1)
	s.pub.Publish(numbered(1), func(r inbox.Receipt, _ error) { landed <- r })
	if r := <-landed; r.Seq == 0 || !r.Free {
		t.Errorf("%+v", r)
	}
}
