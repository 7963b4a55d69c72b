package coordinator_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// signer says what it was asked.
type signer struct{}

func (signer) Enroll(_ context.Context, body []byte, from string) (*wire.Enrolled, error) {
	if string(body) == "again" {
		return nil, &wire.Error{Code: wire.RateLimited, RetryAfter: 1500 * time.Millisecond}
	}
	return &wire.Enrolled{JWT: "enrolled " + string(body) + " for " + from}, nil
}

func (signer) Renew(_ context.Context, body []byte, who subjects.Address) (*wire.Enrolled, error) {
	return &wire.Enrolled{JWT: "renewed " + string(body) + " of " + who.String()}, nil
}

func (signer) NewCode(context.Context, []byte) (*enroll.Code, error) {
	return &enroll.Code{Code: "C"}, nil
}

func TestEnrolmentIsAnsweredOnNATS(t *testing.T) {
	t.Parallel()
	p := newPlace(t, natstest.Services("billing"))
	c, err := coordinator.New(coordinator.Options{Dial: p.dial, Enroller: signer{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(p.ctx()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	key := subjects.Address{User: "alice", Device: "phone"}.Key()
	for subject, want := range map[string]string{
		subjects.CoordinatorEndpoint("enroll"): `"jwt":"enrolled x for a service"`,
		layout.PartEndpoint("enroll"):          `"jwt":"enrolled x for 192.0.2.1"`,
		subjects.CoordinatorEndpoint("renew"):  `"jwt":"renewed x of /"`,
		layout.PartEndpoint("renew"):           `"jwt":"renewed x of /"`,
		subjects.DeviceEndpoint(key, "renew"):  `"jwt":"renewed x of alice/phone"`,
		layout.PartEndpoint("enroll-code"):     `"code":"C"`,
	} {
		nc := p.nc
		if subject == subjects.DeviceEndpoint(key, "renew") {
			var err error
			if nc, err = p.dial("device", nats.CustomInboxPrefix(subjects.ReplyPrefix(key))); err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
		}
		got, err := nc.RequestMsgWithContext(p.ctx(), &nats.Msg{
			Subject: subject, Data: []byte("x"), Header: nats.Header{enroll.HeaderFrom: {"192.0.2.1"}},
		})
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		if !bytes.Contains(got.Data, []byte(want)) {
			t.Errorf("%s answered %s, want %s", subject, got.Data, want)
		}
	}
	// Wrong claims of one service count for no other: NATS says which one it is.
	// Who only says so in a header does not pass for another.
	forged := &nats.Msg{
		Subject: subjects.CoordinatorEndpoint("enroll"), Data: []byte("x"), Header: nats.Header{layout.HeaderRequester: {`{"user":"forged"}`}},
	}
	for want, nc := range map[string]*nats.Conn{"service billing": p.env.Service(t, "billing"), "a service": p.nc} {
		got, err := nc.RequestMsgWithContext(p.ctx(), forged)
		if err != nil || !bytes.Contains(got.Data, []byte(`"jwt":"enrolled x for `+want+`"`)) {
			t.Errorf("%s is answered %v, %v", want, got, err)
		}
	}
	got, err := p.nc.RequestWithContext(p.ctx(), layout.PartEndpoint("enroll"), []byte("again"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Nats-Service-Error-Code") != "429" || got.Header.Get(enroll.HeaderRetryAfter) != "2" {
		t.Errorf("headers %v", got.Header)
	}
}
