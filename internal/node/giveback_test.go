package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// divided is a node with two shards, and edges beside it that serve one each.
type divided struct {
	*store
	user string // of shard 1
}

func newDivided(t *testing.T) *divided {
	t.Helper()
	n := nodetest.Start(t, node.Options{Shards: 2, NATSListen: nodetest.AnyPort})
	d := &divided{store: storeOf(t, n, auth.DefaultTenant)}
	for i := 0; d.user == ""; i++ {
		if u := fmt.Sprint("user-", i); shard.OfUser(subjects.UserID(u), 2) == 1 {
			d.user = u
		}
	}
	return d
}

// edge starts an edge that serves one shard.
func (d *divided) edge(name, serves string, giveBackAfter time.Duration) *node.Edge {
	d.t.Helper()
	cred, err := d.n.Keys().IssuePart(name)
	testkit.Check(d.t, err)
	e, err := node.NewEdge(node.EdgeOptions{
		RemoteOptions: node.RemoteOptions{
			Server: d.n.NATSURL(), Logins: []node.Login{{Tenant: auth.DefaultTenant, Credential: cred}}, Name: name, StopWithin: testkit.Patience,
		},
		Listen: nodetest.AnyPort, Shards: serves, Advertise: "wss://" + name + ".example.com", GiveBackAfter: giveBackAfter,
	})
	testkit.Check(d.t, err)
	testkit.Check(d.t, e.Start(d.t.Context()))
	d.t.Cleanup(func() { testkit.Check(d.t, e.Stop(context.WithoutCancel(d.t.Context()))) })
	return e
}

// serves reports whether an edge has a lease of shard 1.
func (d *divided) serves(name string) bool {
	d.t.Helper()
	leases, err := d.js.KeyValue(d.t.Context(), shard.At(1, 2).Bucket(layout.BucketEdges))
	testkit.Check(d.t, err)
	keys, err := leases.ListKeys(d.t.Context())
	testkit.Check(d.t, err)
	found := false
	for key := range keys.Keys() {
		entry, err := leases.Get(d.t.Context(), key)
		if err != nil {
			continue // removed meanwhile
		}
		var e roster.Edge
		testkit.Check(d.t, json.Unmarshal(entry.Value(), &e))
		found = found || e.Name == name
	}
	return found
}

// register connects the user's phone to an edge, and returns the answer.
func (d *divided) register(e *node.Edge) (phone *devicetest.Device, answer map[string]any) {
	d.t.Helper()
	phone = devicetest.Connect(d.t, devicetest.URL(e.Addr().String()), devicetest.How{})
	phone.SendRegister(nodetest.Token(d.t, d.n, d.user+"/phone"), "")
	return phone, phone.Read()
}

// insist connects the user's phone to an edge though that sends it elsewhere, or has just
// given the shard back again.
func (d *divided) insist(e *node.Edge) *devicetest.Device {
	d.t.Helper()
	for {
		phone, answer := d.register(e)
		if answer["type"] == "ack" {
			return phone
		}
		if code := answer["payload"].(map[string]any)["code"]; code != "WRONG_EDGE" && code != "UNAVAILABLE" {
			d.t.Fatalf("told %v", answer)
		}
	}
}

// An edge that has taken a shard up serves it for as long as it is needed there: while a
// device is connected, and while no other edge has the shard among its own.
func TestAShardThatWasTakenUpIsGivenBack(t *testing.T) {
	t.Parallel()
	const idle = 200 * time.Millisecond
	d := newDivided(t)
	low := d.edge("low", "0", idle)
	desktop := connect(t, d.n, d.user+"/desktop")
	send := func(id string) {
		t.Helper()
		desktop.Send(`{"id":"` + id + `","type":"note","toDeviceId":"phone","payload":1,"requiresAck":true}`)
		desktop.Until("ack")
	}
	stays := func(why string) {
		t.Helper()
		from := time.Now()
		testkit.Eventually(t, "some time to pass", func() bool {
			if !d.serves("low") {
				t.Fatal("the shard was given back " + why)
			}
			return time.Since(from) > 5*idle
		})
	}
	phone := d.insist(low) // no other edge is known
	send("1")
	phone.Ack(phone.Read())
	testkit.Check(t, phone.Close())
	stays("while no other edge has it among its own")

	phone = d.insist(low)
	d.edge("high", "1", idle)
	stays("while a device is connected")
	testkit.Check(t, phone.Close())
	testkit.Eventually(t, "the shard to be given back", func() bool { return !d.serves("low") })
	if !d.serves("high") {
		t.Error("an edge has given back a shard of its own")
	}

	send("2")
	_, told := d.register(low)
	if urls := told["payload"].(map[string]any)["urls"]; told["type"] != "error" || fmt.Sprint(urls) != "[wss://high.example.com]" {
		t.Fatalf("told %v", told)
	}
	phone = d.insist(low)
	if got := phone.Read(); got["id"] != "2" {
		t.Errorf("got %v, and 1 was acknowledged", got)
	}
	if !d.serves("low") {
		t.Error("the shard was not taken up again")
	}
}

// A device comes and goes while the edge gives its shard back and takes it up again. What
// was accepted for it arrives in order, and nothing is left out.
func TestNothingIsLostWhileAShardIsGivenBack(t *testing.T) {
	t.Parallel()
	d := newDivided(t)
	low := d.edge("low", "0", time.Millisecond)
	d.edge("high", "1", 0)
	testkit.Check(t, d.insist(low).Close()) // from now on the phone is known
	desktop := connect(t, d.n, d.user+"/desktop")
	const rounds, each = 12, 4
	sent, given := 0, 0
	var got []string
	for range rounds {
		for range each {
			desktop.Send(fmt.Sprintf(`{"id":"%d","type":"note","toDeviceId":"phone","payload":1,"requiresAck":true}`, sent))
			if e := desktop.Read(); e["type"] != "ack" {
				t.Fatalf("answered %v", e)
			}
			sent++
		}
		phone := d.insist(low)
		for len(got) < sent-1 { // the last one of each round waits for the next
			e := phone.Read()
			if id := e["id"].(string); !slices.Contains(got, id) {
				got = append(got, id)
			}
			phone.Ack(e)
		}
		testkit.Check(t, phone.Close())
		if !d.serves("low") {
			given++
		}
	}
	testkit.Eventually(t, "the shard to be given back", func() bool { return !d.serves("low") })
	phone := nodetest.Register(t, d.n.Addr().String(), nodetest.Registering{Token: nodetest.Token(t, d.n, d.user+"/phone")})
	for len(got) < sent {
		if id := phone.Read()["id"].(string); !slices.Contains(got, id) {
			got = append(got, id)
		}
	}
	for i, id := range got {
		if id != fmt.Sprint(i) {
			t.Fatalf("message %d is %s: %q", i, id, got)
		}
	}
	t.Logf("%d times the shard was given back before the next device came", given)
}
