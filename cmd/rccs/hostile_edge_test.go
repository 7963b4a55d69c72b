package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// high is a user of a shard that an edge with --shards 0-1 does not serve, of four.
func high(t *testing.T) (user string, n int) {
	t.Helper()
	for _, u := range dividedUsers {
		if n := shard.OfUser(subjects.UserID(u), 4); n > 1 {
			return u, n
		}
	}
	t.Fatal("there is none")
	return "", 0
}

// What the leases of edges say is what devices are told, and any part may write
// leases: a device gets a few addresses that are some, in a frame that it can take.
func TestADeviceIsSentToAddressesOfEdgesAlone(t *testing.T) {
	t.Parallel()
	i := serve(t, "--shards", "4")
	c := i.console()
	user, n := high(t)
	js, err := jetstream.New(i.part(t, "default"), jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	leases, err := js.KeyValue(t.Context(), fmt.Sprint("RCCS_EDGES_", n))
	testkit.Check(t, err)
	edge := c.start(t, "edge", "--shards", "0-1", "--listen", "127.0.0.1:0", "--admin-listen", "", "--server", i.nats,
		"--creds", file(t, c.succeed(t, "creds", "part", "low").out))
	devices := edge.await(`^devices +(ws://\S+)$`)[1]
	told := func(user string) (urls []string) {
		token := strings.TrimSpace(c.succeed(t, "creds", "device", user+"/phone", "--bearer").out)
		d := devicetest.Connect(t, devices, devicetest.How{})
		d.SendRegister(token, `,"maxFrameBytes":1024`)
		kind, frame := d.Next()
		if len(frame) > wire.MinFrame {
			t.Errorf("a frame of %d bytes", len(frame))
		}
		var e struct{ Payload struct{ URLs []string } }
		if err := json.Unmarshal([]byte(frame), &e); err != nil || kind == "error" && len(e.Payload.URLs) == 0 {
			t.Fatalf("told %s, %v", frame, err)
		}
		return e.Payload.URLs
	}

	lease := func(name, url string) {
		text, err := json.Marshal(map[string]string{"name": name, "url": url})
		testkit.Check(t, err)
		_, err = leases.Put(t.Context(), name, text)
		testkit.Check(t, err)
	}
	for k, url := range []string{"javascript:alert(1)", "http://evil.example.com", "evil.example.com", "wss://", "wss://" + strings.Repeat("x", 100_000), "file:///etc/passwd"} {
		lease(fmt.Sprint("odd-", k), url)
	}
	if urls := told(user); len(urls) != 0 {
		t.Errorf("sent to %.100q", urls)
	}
	for k := range 100 {
		lease(fmt.Sprint("good-", k), fmt.Sprintf("wss://edge-%d.example.com/v1/ws", k))
	}
	// The edge has taken the shard of that user up, and serves its devices.
	other := ""
	for k := 0; other == ""; k++ {
		if u := fmt.Sprint("user-", k); shard.OfUser(subjects.UserID(u), 4) == 5-n {
			other = u
		}
	}
	leases, err = js.KeyValue(t.Context(), fmt.Sprint("RCCS_EDGES_", 5-n))
	testkit.Check(t, err)
	for k := range 100 {
		lease(fmt.Sprint("good-", k), fmt.Sprintf("wss://edge-%d.example.com/v1/ws", k))
	}
	urls := told(other)
	for _, url := range urls {
		if node.CheckAdvertised(url) != nil || !strings.Contains(url, "example.com") {
			t.Errorf("sent to %q", url)
		}
	}
	if len(urls) < 2 {
		t.Errorf("sent to %q", urls)
	}
	edge.stop()
}

// The credential of an edge is one of its tenant, whichever shards it serves: it
// reads, writes and deletes what is of all users.
func TestOpen_AnEdgeOfSomeShardsReachesAllOfThem(t *testing.T) {
	t.Parallel()
	i := serve(t, "--shards", "4")
	c := i.console()
	user, n := high(t)
	c.succeed(t, "send", user+"/phone", `"for the phone alone"`)
	nc := i.part(t, "default")
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	inboxes, err := js.Stream(t.Context(), fmt.Sprint("RCCS_INBOX_", n))
	testkit.Check(t, err)
	got, err := inboxes.GetLastMsgForSubject(t.Context(), "rccs.inbox."+user+".phone.normal")
	if err != nil || string(got.Data) != `"for the phone alone"` {
		t.Errorf("it reads %v, %v", got, err)
	}
	forged := nats.NewMsg(fmt.Sprintf("rccs.%d.inbox.%s.phone.normal", n, user))
	forged.Header.Set("Rccs-From", "desktop")
	forged.Data = []byte(`"forged"`)
	_, err = js.PublishMsg(t.Context(), forged)
	testkit.Check(t, err)
	if got := c.succeed(t, "connect", user+"/phone", "--count", "2", "--timeout", patient).out; !strings.Contains(got, "desktop: \"forged\"") {
		t.Errorf("the device got %q", got)
	}
	testkit.Check(t, js.DeleteStream(t.Context(), fmt.Sprint("RCCS_INBOX_", n)))
}
