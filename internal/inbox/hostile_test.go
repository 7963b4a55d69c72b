package inbox_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// A header that looks like what NATS says of an answer is a header of a
// message, whoever reads it: the hub, a catch-up, the look at last messages.
func TestStatusHeaderOfAServiceIsNoStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"100", "404", "204", "408", "409", "503"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			s.put(phone, subjects.Normal, 0, 1)
			s.publish(phone, nats.Header{"Status": {status}, "Nats-Last-Sequence": {"1"}, "Nats-Sequence": {"99"}})
			expect(t, s.attach(phone, 100).receive(2), "0 ")
			s.stop()
			s.start(nil)
			d := s.attach(phone, 100)
			s.put(phone, subjects.Normal, 2, 1)
			expect(t, d.receive(3), "0r r 2")
			d.mailbox.Detach()
			s.stop()
			s.publish(phone, nats.Header{"Status": {status}}) // the last of its lane
			s.start(nil)
			expect(t, s.attach(phone, 100).receive(4), "0r r 2r ")
		})
	}
}

// publish stores an empty message with headers of its own.
func (s *system) publish(k subjects.Key, h nats.Header) {
	s.t.Helper()
	if _, err := s.js.PublishMsg(s.t.Context(), &nats.Msg{Subject: subjects.Inbox(k, subjects.Normal), Header: h}); err != nil {
		s.t.Fatal(err)
	}
}

// Headers that cannot be read cost their message its headers, and nobody else
// anything.
func TestUnreadableHeadersDoNotBlockALane(t *testing.T) {
	t.Parallel()
	s := newSystemOn(t, natstest.Server(t, natstest.Listen()), nil)
	bob := subjects.Address{User: "bob", Device: "x"}.Key()
	s.put(phone, subjects.Normal, 0, 1)
	s.publishRaw(phone, "NATS/1.0\r\nno colon here\r\n\r\n", "1")
	s.put(phone, subjects.Normal, 2, 1)
	s.put(bob, subjects.Normal, 7, 1)
	s.publishRaw(bob, "NATS/1.0\r\n: \r\n\r\n", "8")
	d := s.attach(phone, 100)
	expect(t, d.receive(3), "0 1 2")
	d.mailbox.Detach()
	s.stop()
	s.start(nil)
	expect(t, s.attach(phone, 100).receive(3), "0r 1r 2r")
	expect(t, s.attach(bob, 100).receive(2), "7 8")
}

// publishRaw speaks to the server without a library.
func (s *system) publishRaw(k subjects.Key, header, body string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.env.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, err = fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subjects.Inbox(k, subjects.Normal), len(header), len(header)+len(body), header, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.HasPrefix(line, "PONG") {
			return
		}
	}
}
