package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/testkit"
)

// early connects with a service's credential of the kind that there was before
// services had an account of their own: a user of the tenant's account.
func (i *installation) early(t *testing.T) *nats.Conn {
	t.Helper()
	keys, err := auth.OpenKeystore(i.data)
	testkit.Check(t, err)
	seed, err := os.ReadFile(filepath.Join(i.data, "keys", "default-signing.nk"))
	testkit.Check(t, err)
	tenant, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	testkit.Check(t, err)
	user, err := nkeys.CreateUser()
	testkit.Check(t, err)
	public, err := user.PublicKey()
	testkit.Check(t, err)
	claims := jwt.NewUserClaims(public)
	claims.Name, claims.IssuerAccount = "service:early", keys.Account().PublicKey
	allow := layout.ForService()
	claims.Pub.Allow.Add(allow.Publish...)
	claims.Sub.Allow.Add(allow.Subscribe...)
	token, err := claims.Encode(tenant)
	testkit.Check(t, err)
	nc, err := nats.Connect(i.nats, nats.UserJWT(func() (string, error) { return token, nil }, user.Sign), nats.Timeout(testkit.Patience))
	testkit.Check(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// The record names the service that asked, as NATS vouches for it, whatever the
// service says. Nobody keeps an act out of the record.
func TestTheRecordSaysWhichServiceAsked(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	for _, device := range []string{"alice/a", "alice/b", "alice/c"} {
		c.succeed(t, "send", device, "1")
	}
	shop, early := i.service(t, "shop"), i.early(t)
	ask := func(nc *nats.Conn, endpoint, body string) {
		t.Helper()
		m := &nats.Msg{Subject: "rccs.coordinator." + endpoint, Data: []byte(body), Header: nats.Header{
			layout.HeaderRequester: {`{"acc":"A","user":"U","jwt":"eyJ9.eyJuYW1lIjoic2VydmljZTpvdGhlciJ9.x"}`}, // service:other
		}}
		_, err := nc.RequestMsg(m, testkit.Patience)
		testkit.Check(t, err)
	}
	ask(shop, "missed", `{"user":"alice","device":"a"}`)
	ask(shop, "replay", `{"user":"alice","device":"a","missed":true}`)
	ask(shop, "replay", `{"user":"alice","device":"a","missed":true,"to":"bob/x"}`)
	ask(shop, "forget", `{"user":"alice","device":"a"}`)
	ask(early, "missed", `{"user":"alice","device":"b"}`)
	ask(early, "forget", `{"user":"alice","device":"b"}`)
	// What has no reply subject is not done. One of RCCS itself changes nothing.
	for _, nc := range []*nats.Conn{early, shop} {
		testkit.Check(t, nc.Publish("rccs.coordinator.forget", []byte(`{"user":"alice","device":"b"}`)))
	}
	testkit.Check(t, early.Publish("rccs.coordinator.part.forget", []byte(`{"user":"alice","device":"b"}`))) // NATS refuses it
	testkit.Check(t, early.PublishRequest("rccs.coordinator.forget", "_RCCS.x", []byte(`{"user":"alice","device":"c"}`)))
	testkit.Check(t, early.FlushTimeout(testkit.Patience))
	c.succeed(t, "send", "carol/x", "1")
	c.succeed(t, "devices", "forget", "carol/x", "--yes") // an operator's act is recorded once, by the operator's name

	type act struct{ Action, Who, Target, Result string }
	want := []act{
		{"read", "service:shop", "alice/a", "done"},
		{"replay", "service:shop", "alice/a", "done"},
		{"replay", "service:shop", "alice/a", "refused"},
		{"forget", "service:shop", "alice/a", "done"},
		{"read", "a service", "alice/b", "done"},
		{"forget", "a service", "alice/b", "done"},
		{"forget", "a service", "alice/c", "done"},
	}
	operators := 0
	var got []act
	testkit.Eventually(t, "the last is recorded", func() bool {
		var all []act
		testkit.Check(t, json.Unmarshal([]byte(c.succeed(t, "audit", "--json").out), &all))
		got, operators = all[:0], 0
		for _, a := range all {
			if a.Target == "carol/x" {
				operators++
				continue
			}
			got = append(got, a)
		}
		return len(got) >= len(want) && got[len(got)-1].Result == "done"
	})
	if operators != 1 {
		t.Errorf("an operator's act is recorded %d times", operators)
	}
	for n := range max(len(got), len(want)) {
		if n >= len(got) || n >= len(want) || got[n] != want[n] {
			t.Fatalf("recorded %+v, want %+v", got, want)
		}
	}
}
