package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
)

func TestProtocol_9_HeadersBecomeTheEnvelope(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	service := s.service(t, "backend")
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	seq := service.publish(inbox(u, "d", "high"), `{"n":1}`, "Rccs-Id", "the id", "Rccs-Type", "user_message", "Rccs-Correlation", "corr",
		"Rccs-Timestamp", "2024-02-29T12:00:00Z", "traceparent", trace, "Unknown-Header", "x")
	e := d.message()
	if e.ID != "the id" || e.Type != "user_message" || e.CorrelationID != "corr" || e.Traceparent != trace || e.Seq != seq {
		t.Errorf("got %s, stored as %d", e.raw, seq)
	}
	if at, err := time.Parse(time.RFC3339, e.Timestamp); err != nil || !at.Equal(time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("timestamp %q", e.Timestamp)
	}
	if e.Priority == nil || *e.Priority != 2 {
		t.Errorf("the lane high came as %s", e.raw)
	}
	if !strings.HasPrefix(e.FromDeviceID, "service:") {
		t.Errorf("sender is %q", e.FromDeviceID)
	}
}

func TestProtocol_9_DefaultsOfAPlainPublish(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	service := s.service(t, "plain")
	if err := service.nc.Publish(inbox(u, "d", "normal"), []byte(`{"hello":"world"}`)); err != nil {
		t.Fatal(err)
	}
	e := d.message()
	if string(e.Payload) != `{"hello":"world"}` || e.Type != "notification" || e.ID == "" {
		t.Errorf("got %s", e.raw)
	}
	if _, err := time.Parse(time.RFC3339, e.Timestamp); err != nil {
		t.Errorf("timestamp %q", e.Timestamp)
	}
	service.publish(inbox(u, "d", "normal"), "1", "Nats-Msg-Id", u+" unique")
	if e := d.message(); e.ID != u+" unique" {
		t.Errorf("the id is %q, want that of Nats-Msg-Id", e.ID)
	}
	other := service.publish(inbox(u, "d", "normal"), "2")
	if again := d.message(); again.ID == e.ID || again.Seq != other {
		t.Errorf("two messages have the id %q", e.ID)
	}
}

func TestProtocol_9_NatsMsgIDIsStoredOnce(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	service := s.service(t, "once")
	first := service.publish(inbox(u, "d", "normal"), "1", "Nats-Msg-Id", u)
	ack, err := service.try(inbox(u, "d", "normal"), "1", "Nats-Msg-Id", u)
	if err != nil || !ack.Duplicate || ack.Sequence != first {
		t.Errorf("the repeat was stored as %+v (%v)", ack, err)
	}
	service.publish(inbox(u, "d", "normal"), `"marker"`)
	d.message()
	d.wantMessage(`"marker"`)
}

// A service's headers are hostile at times: what cannot be an envelope's field
// is not passed on, and the device is not disturbed.
func TestProtocol_9_HostileHeadersDoNoHarm(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	service := s.service(t, "hostile")
	for _, h := range [][]string{
		{"Rccs-Type", "Not A Type"},
		{"Rccs-Type", `x","seq":1,"y":"`},
		{"Rccs-Id", `"}{"`},
		{"Rccs-Id", "\xff\xfe"},
		{"Rccs-Correlation", "\x01\x02"},
		{"Rccs-Timestamp", "yesterday"},
		{"Rccs-Ttl-Ms", "-1"},
		{"Rccs-Ack", "perhaps"},
		{"Rccs-Id", "a", "Rccs-Id", "b"},
		{"Rccs-Type", "error"},
		{"Rccs-Type", "device_register"},
	} {
		seq := service.publish(inbox(u, "d", "normal"), "1", h...)
		e := d.next()
		if e.Seq != seq || string(e.Payload) != "1" {
			t.Errorf("header %.60q: got %.300s", h, e.raw)
		}
		if e.ID == "" || e.Type == "" {
			t.Errorf("header %.60q: got %.300s", h, e.raw)
		}
		d.ack(seq)
	}
	d.beat()
}

func TestProtocol_9_OnlyTheFourLanesAreStored(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	service := s.service(t, "lanes")
	for _, subject := range []string{
		inbox(u, "d", "urgent"), inbox(u, "d", "Normal"), inbox(u, "d", "1"), inbox(u, "d", "normal") + ".x", "rccs.inbox." + token(u) + ".d",
	} {
		if ack, err := service.tryBriefly(subject); err == nil {
			t.Errorf("a publish on %s was stored as %+v", subject, ack)
		}
	}
	service.publish(inbox(u, "d", "normal"), `"marker"`)
	d.wantMessage(`"marker"`)
}

// tryBriefly publishes where nobody may answer.
func (v *service) tryBriefly(subject string) (*nats.Msg, error) {
	return v.nc.Request(subject, []byte("1"), time.Second)
}

func TestProtocol_9_NamesThatAreNotEscapedReachNobody(t *testing.T) {
	t.Parallel()
	s := use(t)
	u := "plain" + newID()
	d := connect(t, s, u+"/d e", nil)
	service := s.service(t, "escapes")
	for _, token := range []string{"d%20E", "d%2", "d%", "%64%20%65", "d%20e%"} {
		_, _ = service.tryBriefly("rccs.inbox." + u + "." + token + ".normal")
	}
	service.publish("rccs.inbox."+u+".d%20e.normal", `"marker"`)
	d.wantMessage(`"marker"`)
	d.beat()
}

func TestProtocol_9_MessageForADeviceNeverRegisteredWaits(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	service := s.service(t, "early")
	for _, lane := range []string{"low", "critical"} {
		service.publish(inbox(u, "new", lane), `"`+lane+`"`)
	}
	s.caughtUp(t, u)
	d := connect(t, s, u+"/new", nil)
	if d.session.Pending != 2 {
		t.Errorf("%d pending, want 2", d.session.Pending)
	}
	for _, want := range []string{`"critical"`, `"low"`} {
		if e := d.message(); string(e.Payload) != want || e.Redelivered {
			t.Errorf("want %s, got %s", want, e.raw)
		}
	}
}

func TestProtocol_9_WithoutCredentialsNobodyConnects(t *testing.T) {
	t.Parallel()
	s := use(t)
	elsewhere := start(t)
	foreign := must(t, "creds", "service", "backend", "--data", elsewhere.data)
	for name, opts := range map[string][]nats.Option{
		"none":     nil,
		"password": {nats.UserInfo("admin", "admin")},
		"token":    {nats.Token("x")},
		"foreign":  {credsOption(t, foreign)},
	} {
		s.keepsOut(t, name, opts...)
	}
}

// keepsOut shows that NATS refuses whoever connects so. A server that has waited too
// long for the credential says something else.
func (s *server) keepsOut(t *testing.T, who string, opts ...nats.Option) {
	t.Helper()
	eventually(t, func() error {
		nc, err := nats.Connect(s.NATS, append(opts, nats.Timeout(patience), nats.ErrorHandler(nobody))...)
		if err == nil {
			nc.Close()
			t.Fatalf("%s: connected", who)
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			return fmt.Errorf("%s: %w, want an authorization error", who, err)
		}
		return nil
	})
}

// A device's own credential on plain NATS reaches nothing but its own.
func TestProtocol_9_DeviceOnPlainNATSIsConfined(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	neighbour := connect(t, s, u+"/neighbour", nil)
	errs := make(chan error, 64)
	prefix := "_INBOX." + token(u) + ".d"
	file := must(t, "creds", "device", u+"/d", "--data", s.data)
	nc := natstest.Dial(t, s.NATS, credsOption(t, file), nats.CustomInboxPrefix(prefix), nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	denied := func(what string) {
		t.Helper()
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-errs:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Errorf("%s is allowed", what)
		}
	}
	own := token(u)
	for _, subject := range []string{
		inbox(u, "d", "normal"), inbox(u, "neighbour", "normal"), inbox("other", "d", "normal"), "rccs.signal." + own + ".neighbour",
		"rccs.route." + own + ".all", "rccs.cursor." + own + ".neighbour", "rccs.event." + own + ".d.online", "rccs.up." + own + ".d.x",
		"rccs.topic.t", "rccs.coordinator.devices", "rccs.coordinator.device." + own + ".neighbour.fetch", "rccs.rpc." + own + ".neighbour.x",
		"$JS.API.STREAM.LIST", "$JS.API.DIRECT.GET.RCCS_INBOX", "$JS.API.STREAM.PURGE.RCCS_INBOX", "$JS.API.STREAM.DELETE.RCCS_INBOX",
		"$KV.RCCS_DEVICES.x", "$SYS.REQ.SERVER.PING", "$SRV.PING", "_INBOX." + own + ".neighbour.x", "anything",
	} {
		if err := nc.Publish(subject, []byte("1")); err != nil {
			t.Fatal(err)
		}
		denied("publish on " + subject)
	}
	for _, subject := range []string{
		">", "*.>", "rccs.>", inbox(u, "d", "normal"), "rccs.inbox.>", "rccs.signal." + own + ".neighbour", "rccs.signal." + own + ".*",
		"_INBOX.>", "_INBOX." + own + ".*.>", "_RCCS.>", "rccs.up.>", "rccs.event.>", "rccs.topic.t", "$JS.>", "$KV.>", "$SYS.>", "$SRV.>",
	} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		denied("subscribe to " + subject)
	}
	// Its own: what services signal.
	sub, err := nc.SubscribeSync("rccs.signal." + own + ".d")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if err := s.service(t, "signal").nc.Publish("rccs.signal."+own+".d", []byte("ring")); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(patience); err != nil || string(m.Data) != "ring" {
		t.Errorf("its own signal: %v", err)
	}
	neighbour.give("neighbour", "marker", nil)
	if e := neighbour.message(); string(e.Payload) != `"marker"` {
		t.Errorf("the neighbour received %s", e.raw)
	}
}

// A service publishes, and cannot read or destroy what is stored.
func TestProtocol_9_ServiceIsConfined(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	service := s.service(t, "nosy")
	service.publish(inbox(u, "d", "normal"), `"kept"`)
	for _, subject := range []string{
		"$JS.API.STREAM.PURGE.RCCS_INBOX", "$JS.API.STREAM.DELETE.RCCS_INBOX", "$JS.API.STREAM.MSG.DELETE.RCCS_INBOX",
		"$JS.API.STREAM.UPDATE.RCCS_INBOX", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.MSG.GET.RCCS_INBOX",
		"$JS.API.DIRECT.GET.RCCS_INBOX", "$JS.API.CONSUMER.CREATE.RCCS_INBOX", "$JS.API.STREAM.PURGE.RCCS_CURSOR",
	} {
		if m, err := service.nc.Request(subject, nil, 300*time.Millisecond); err == nil {
			t.Errorf("%s is allowed: %s", subject, m.Data)
		}
	}
	// One header must not empty an inbox.
	for _, h := range [][]string{{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}} {
		if ack, err := service.try(inbox(u, "d", "normal"), "1", h...); err == nil {
			t.Errorf("%s is stored as %+v", h, ack)
		} else if api := new(jetstream.APIError); !errors.As(err, &api) {
			t.Errorf("%s: %v, want a refusal by the store", h, err)
		}
	}
	if e := connect(t, s, u+"/d", nil).message(); string(e.Payload) != `"kept"` {
		t.Errorf("got %s", e.raw)
	}
}
