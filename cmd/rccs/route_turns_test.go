package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
)

// NATS says which service asks, for taking turns. Nothing of it is stored, or
// reaches a device.
func TestWhoPublishesARouteOrAsksIsToldToNobody(t *testing.T) {
	t.Parallel()
	i := serve(t)
	phone := i.device(t, "alice/phone", client.Options{Type: "mobile"})
	file := filepath.Join(t.TempDir(), "service.creds")
	if err := os.WriteFile(file, []byte(i.console().succeed(t, "creds", "service", "billing").out), 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(i.nats, nats.UserCredentials(file), nats.Timeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range []*nats.Msg{
		{Subject: "rccs.route.alice.all", Data: []byte(`"first"`)},
		{Subject: "rccs.route.alice.any.mobile", Data: []byte(`"second"`), Header: nats.Header{"Rccs-Id": {"two"}, "Rccs-Type": {"note"}}},
	} {
		if ack, err := js.PublishMsg(t.Context(), m); err != nil || ack.Stream != "RCCS_ROUTE" {
			t.Fatalf("%d: %+v, %v", n, ack, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	for _, want := range []string{`"first"`, `"second"`} {
		m, err := phone.Receive(ctx)
		if err != nil || string(m.Payload) != want {
			t.Fatalf("it got %+v, %v", m, err)
		}
	}
	for _, stream := range []string{"RCCS_ROUTE", "RCCS_INBOX", "RCCS_EVENT"} {
		if stored := everything(t, i, stream); strings.Contains(stored, "Request-Info") || strings.Contains(stored, "eyJ") {
			t.Errorf("%s has who asked: %s", stream, stored)
		}
	}
}
