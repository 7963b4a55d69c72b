package edge_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
)

// What a service sends without storing it has headers too: those that cannot be
// used are told, and the signal or the request arrives.
func TestBadHeadersOfSignalsAndRequestsAreTold(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, nil, func(o *edge.TenantOptions) {
		o.Examine = inbox.NewTeller(o.Publisher.(*inbox.Publisher), slog.New(slog.DiscardHandler), nil).Passing
	})
	d := w.connect()
	js, err := jetstream.New(w.env.Conn(t), jetstream.WithDefaultTimeout(within))
	check(t, err)
	nc := w.env.Conn(t)
	for _, c := range []struct {
		subject, reply, header, kind string
	}{
		{subjects.Signal(phone), "", subjects.HeaderTimestamp, "notification"},
		{subjects.RPC(phone, "work"), nats.NewInbox(), subjects.HeaderCorrelation, "request"},
	} {
		check(t, nc.PublishMsg(&nats.Msg{Subject: c.subject, Reply: c.reply, Data: []byte(`1`), Header: nats.Header{
			subjects.HeaderID: {"good"}, c.header: {strings.Repeat("not good", 20)},
		}}))
		if kind, body := d.Next(); kind != c.kind || !strings.Contains(body, `"id":"good"`) || strings.Contains(body, "not good") {
			t.Errorf("the device got %s", body)
		}
		stream, err := js.Stream(t.Context(), subjects.StreamEvent)
		check(t, err)
		var told *jetstream.RawStreamMsg
		eventually(t, "the event", func() bool {
			told, err = stream.GetLastMsgForSubject(t.Context(), "rccs.event.alice.phone.badHeader")
			return err == nil && strings.Contains(string(told.Data), c.subject)
		})
		var e struct{ User, Device, ID, Header, Subject string }
		check(t, json.Unmarshal(told.Data, &e))
		if e.User != "alice" || e.Device != "phone" || e.ID != "good" || e.Header != c.header || e.Subject != c.subject {
			t.Errorf("told %s", told.Data)
		}
	}
}
