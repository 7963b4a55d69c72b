package inbox_test

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
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

// An empty line among the headers of a service hides those that NATS adds behind
// them. What the service wrote in their place counts for nothing: the message comes
// with the sequence that it has, once, and blocks nobody.
func TestHeadersThatEndEarlyAreNotTheServers(t *testing.T) {
	t.Parallel()
	s := newSystemOn(t, natstest.Server(t, natstest.Listen()), nil)
	s.put(phone, subjects.Normal, 0, 1)
	const forged = "Nats-Stream: RCCS_INBOX\r\nNats-Subject: rccs.inbox.bob.x.normal\r\nNats-Sequence: 1000\r\n" +
		"Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 1\r\n"
	short := strings.ReplaceAll(strings.ReplaceAll(forged, ": ", ":"), "\r\n", "\n")
	for n, header := range []string{
		"\r\n", forged + "\r\n", short + "\n", strings.Repeat("a:b\n", 20) + short + "\n", strings.Repeat("a:b\n", 400) + short + "\n", "Status: 404\n\n", "X: y\r\n\r\nZ: z\r\n",
	} {
		s.publishRaw(phone, "NATS/1.0\r\n"+header+"\r\n", strconv.Itoa(n+1))
	}
	s.put(phone, subjects.Normal, 8, 1)
	d := s.attach(phone, 100)
	expect(t, d.receive(9), "0 1 2 3 4 5 6 7 8")
	d.mailbox.Detach()
	s.stop()
	s.publishRaw(phone, "NATS/1.0\r\n"+forged+"\r\n\r\n", "9") // the last of its lane
	s.start(nil)
	d = s.attach(phone, 100)
	expect(t, d.receive(10), "0r 1r 2r 3r 4r 5r 6r 7r 8r 9")
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
