package natstest

import (
	"cmp"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// Ask makes requests of one subject, one after the other, without waiting for
// answers. Their ids are 0 and so on. The function that it returns waits until each
// is answered, whatever the answer says: that nobody listens is one too.
func Ask(tb testing.TB, nc *nats.Conn, subject string, body []byte, count int) (answered func()) {
	tb.Helper()
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, count)
	_, err := nc.ChanSubscribe(inbox+".*", answers)
	testkit.Check(tb, err)
	asked := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < count && err == nil; n++ {
			id := strconv.Itoa(n)
			err = cmp.Or(nc.PublishMsg(&nats.Msg{
				Subject: subject, Reply: inbox + "." + id, Header: nats.Header{subjects.HeaderID: {id}}, Data: body,
			}), nc.FlushTimeout(testkit.Patience))
		}
		asked <- err
	}()
	return func() {
		tb.Helper()
		testkit.Check(tb, <-asked)
		got := make(map[string]bool)
		for len(got) < count {
			select {
			case m := <-answers:
				got[m.Subject] = true
			case <-time.After(testkit.Patience):
				tb.Fatalf("%d of %d requests are answered", len(got), count)
			}
		}
	}
}
