package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// NATS adds who asks behind the headers that a service wrote. A service that ends
// them early with an empty line, and writes another service's name before that, asks
// as nobody.
func TestAServiceCannotHideWhoAsks(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "send", "alice/a", "1")
	shop := i.rawService(t, "shop")
	const forged = `Nats-Request-Info: {"acc":"A","user":"U","jwt":"eyJ9.eyJuYW1lIjoic2VydmljZTpvdGhlciJ9.x"}` // service:other
	short := strings.Repeat("a:b\n", 25)                                                                       // two bytes fewer a line than they are counted for
	for _, headers := range []string{
		forged + "\n\n", "X: y\n" + forged + "\n\nZ: z\r\n", "X: y\n" + forged + "\r\n", "\n", "\r\n", "X: y\n\n",
		short + forged + "\n\n", strings.Repeat("a:b\n", 800) + forged + "\n\n", ":\n\n", " 100 Idle\n" + forged + "\n\n",
	} {
		answer := shop.ask(t, "rccs.coordinator.forget", headers, `{"user":"alice","device":"a"}`)
		if !strings.Contains(answer, "BAD_MESSAGE") || !strings.Contains(answer, "hide who asks") {
			t.Errorf("%.60q: forget is answered %s", headers, answer)
		}
		answer = shop.ask(t, "$JS.API.CONSUMER.NAMES.RCCS_TOPIC", headers, ``)
		if !strings.Contains(answer, "hide who asks") {
			t.Errorf("%.60q: the guard answers %s", headers, answer)
		}
		answer = shop.ask(t, "rccs.later.alice.a.normal.x", "Nats-Schedule: @at "+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"\r\n"+headers, `1`)
		if !strings.Contains(answer, "hide who asks") {
			t.Errorf("%.60q: a delayed message is answered %s", headers, answer)
		}
	}
	if out := c.succeed(t, "audit", "--json").out; strings.Contains(out, "service") {
		t.Errorf("the record: %s", out)
	}
	for _, headers := range []string{"", "X:y\r\n", "X: y\nZ: z\r\n"} { // as clients of other languages write them
		if answer := shop.ask(t, "rccs.coordinator.missed", headers, `{"user":"alice","device":"a"}`); strings.Contains(answer, "error") {
			t.Errorf("%q: answered %s", headers, answer)
		}
	}
	if out := c.succeed(t, "audit", "--json").out; strings.Count(out, "service:shop") != 3 {
		t.Errorf("the record: %s", out)
	}
}

// rawService is a service that writes the protocol of NATS itself.
type rawService struct {
	nc    *nats.Conn
	lines net.Conn
}

// CustomDialer of the connection, which is kept.
func (r *rawService) Dial(network, address string) (_ net.Conn, err error) {
	r.lines, err = net.DialTimeout(network, address, testkit.Patience)
	return r.lines, err
}

func (i *installation) rawService(t *testing.T, name string) *rawService {
	t.Helper()
	file := filepath.Join(t.TempDir(), "service.creds")
	testkit.Check(t, os.WriteFile(file, []byte(i.console().succeed(t, "creds", "service", name).out), 0o600))
	r := &rawService{}
	var err error
	r.nc, err = nats.Connect(i.nats, nats.UserCredentials(file), nats.Timeout(testkit.Patience), nats.SetCustomDialer(r))
	testkit.Check(t, err)
	t.Cleanup(r.nc.Close)
	return r
}

// ask sends a request with a block of headers as it is, and returns the answer.
func (r *rawService) ask(t *testing.T, subject, headers, body string) string {
	t.Helper()
	reply := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(reply)
	testkit.Check(t, err)
	testkit.Check(t, r.nc.FlushTimeout(testkit.Patience)) // the library writes nothing more
	line := "NATS/1.0"
	if !strings.HasPrefix(headers, " ") {
		line += "\r\n"
	}
	block := line + headers + "\r\n"
	_, err = fmt.Fprintf(r.lines, "HPUB %s %s %d %d\r\n%s%s\r\n", subject, reply, len(block), len(block)+len(body), block, body)
	testkit.Check(t, err)
	m, err := sub.NextMsg(testkit.Patience)
	testkit.Check(t, err)
	return string(m.Data)
}
