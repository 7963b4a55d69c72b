package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// What follows runs against all of RCCS.

func TestRequestsGoBothWays(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", client.Options{})
	waits, ended := make(chan struct{}), make(chan error, 1)
	h.device("alice/desktop", client.Options{Requests: map[string]client.RequestHandler{
		"add": func(_ context.Context, r *client.Request) (any, error) {
			var v []int
			if err := r.Decode(&v); err != nil {
				return nil, err
			}
			return v[0] + v[1], nil
		},
		"count": func(_ context.Context, r *client.Request) (any, error) {
			for n := range 2000 {
				if err := r.Part(n); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
		"wait": func(ctx context.Context, _ *client.Request) (any, error) {
			close(waits)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil, ctx.Err()
		},
	}})
	if result, err := phone.Request(testkit.Soon(t), "desktop", "add", []int{2, 3}); err != nil || string(result) != "5" {
		t.Errorf("2 and 3 are %s, %v", result, err)
	}
	n := 0
	for part, err := range phone.RequestStream(testkit.Soon(t), "desktop", "count", nil) {
		if err != nil || string(part) != fmt.Sprint(n) {
			t.Fatalf("part %d is %s, %v", n, part, err)
		}
		n++
	}
	if n != 2000 {
		t.Errorf("%d parts", n)
	}
	if _, err := phone.Request(testkit.Soon(t), "desktop", "none", nil); err == nil || errors.As(err, new(*wire.Error)) {
		t.Errorf("no such method is %v", err)
	}
	ctx, cancel := context.WithCancel(testkit.Soon(t))
	defer cancel()
	go func() {
		select {
		case <-waits:
			cancel()
		case <-ctx.Done():
		}
	}()
	if _, err := phone.Request(ctx, "desktop", "wait", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a response of nobody: %v", err)
	}
	if why := testkit.Await(t, "the end of the handler", ended); why == nil {
		t.Error("the handler ended without a reason")
	}
	desktop := h.device("alice/watch", client.Options{})
	_ = desktop.Close()
	if _, err := phone.Request(testkit.Soon(t), "watch", "add", nil); !errors.Is(err, wire.DeviceOffline) {
		t.Errorf("of a device that is away: %v", err)
	}
	if _, err := phone.Request(testkit.Soon(t), "nobody", "add", nil); !errors.Is(err, wire.DeviceNotFound) {
		t.Errorf("of a device that is not: %v", err)
	}
}

func TestPresenceAndDevices(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	heard := make(chan string, 16)
	phone := h.device("alice/phone", client.Options{Type: "mobile", OnPresence: func(p client.Presence) { heard <- string(p.Device) + " " + p.Status }})
	want := func(change string) {
		t.Helper()
		if got := testkit.Await(t, change, heard); got != change {
			t.Errorf("heard %s, want %s", got, change)
		}
	}
	desktop := h.device("alice/desktop", client.Options{Type: "desktop", Capabilities: map[string]any{"supportsFileSync": true}})
	want("desktop online")
	if err := desktop.SetStatus(testkit.Soon(t), wire.Busy, nil); err != nil {
		t.Fatal(err)
	}
	want("desktop busy")
	all, err := phone.Devices(testkit.Soon(t))
	if err != nil || len(all) != 2 {
		t.Fatalf("listed %+v, %v", all, err)
	}
	slices.SortFunc(all, func(a, b client.Device) int { return len(a.ID) - len(b.ID) })
	if d := all[1]; d.ID != "desktop" || d.Type != "desktop" || d.Status != wire.Busy || string(d.Capabilities) != `{"supportsFileSync":true}` {
		t.Errorf("listed %+v", d)
	}
	if err := desktop.Unregister(testkit.Soon(t)); err != nil {
		t.Fatal(err)
	}
	want("desktop offline")
	if len(heard) > 0 {
		t.Errorf("heard %s too", <-heard)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", client.Options{})
	desktop := h.device("alice/desktop", client.Options{})
	track := func(opts ...client.SendOption) *client.Tracked {
		t.Helper()
		e, err := client.Compose("note", 1, append(opts, client.To("desktop"))...)
		if err != nil {
			t.Fatal(err)
		}
		tracked, err := phone.Track(testkit.Soon(t), e)
		if err != nil {
			t.Fatal(err)
		}
		return tracked
	}
	want := func(tracked *client.Tracked, status wire.Status) {
		t.Helper()
		o, err := tracked.Next(testkit.Soon(t))
		if err != nil || o.Status != status || o.Device != "desktop" {
			t.Errorf("outcome %+v, %v, want %s", o, err, status)
		}
		if _, err := tracked.Next(testkit.Soon(t)); !errors.Is(err, io.EOF) {
			t.Errorf("then %v", err)
		}
	}
	first := track()
	m, err := desktop.Receive(testkit.Soon(t))
	if err != nil {
		t.Fatal(err)
	}
	m.Ack()
	want(first, wire.StatusDelivered)
	_ = desktop.Close()
	short, old, last := track(client.WithTTL(time.Millisecond)), track(client.WithCollapseKey("k")), track(client.WithCollapseKey("k"))
	// The hub has read what was stored before this.
	if _, err := phone.SendJSON(testkit.Soon(t), "note", 1, client.To("phone")); err != nil {
		t.Fatal(err)
	}
	if m, err = phone.Receive(testkit.Soon(t)); err != nil {
		t.Fatal(err)
	}
	m.Ack()
	desktop = h.device("alice/desktop", client.Options{})
	if m, err = desktop.Receive(testkit.Soon(t)); err != nil || m.ID != last.Accepted.ID {
		t.Fatalf("received %+v, %v, want the last message alone", m, err)
	}
	m.Ack()
	want(short, wire.StatusExpired)
	want(old, wire.StatusReplaced)
	want(last, wire.StatusDelivered)
	later := track(client.WithDeliverAt(time.Now().Add(time.Hour)))
	if n, err := phone.Cancel(testkit.Soon(t), later.Accepted.ID); n != 1 || err != nil {
		t.Errorf("cancelled %d, %v", n, err)
	}
	if n, err := phone.Cancel(testkit.Soon(t), "none"); n != 0 || err != nil {
		t.Errorf("cancelled %d of none, %v", n, err)
	}
}

func TestTopicsAndHistory(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	const count = 3000
	url := nodeURL(h.node)
	phone, desktop := h.device("alice/phone", client.Options{}), h.device("bob/desktop", client.Options{})
	s, err := desktop.Subscribe(testkit.Soon(t), "builds.main", nil)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := phone.Subscribe(testkit.Soon(t), "builds.main", nil)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			if _, err := phone.Publish(testkit.Soon(t), "builds.main", n); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(s *client.Subscription, from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			m, err := s.Next(testkit.Soon(t))
			if err != nil || string(m.Payload) != fmt.Sprint(n) {
				t.Fatalf("message %d is %+v, %v", n, m, err)
			}
		}
	}
	publish(0, count)
	read(s, 0, count)
	// All of it goes, and comes back at the same address.
	h.stop()
	h.startAt(url)
	publish(count, count+10)
	read(s, count, count+10)
	read(slow, 0, count+10)
	n := 0
	for e, err := range desktop.History(testkit.Soon(t), wire.History{Topic: "builds.main", Limit: 700}) {
		if err != nil || string(e.Payload) != fmt.Sprint(n) {
			t.Fatalf("stored message %d is %+v, %v", n, e, err)
		}
		n++
	}
	if n != count+10 {
		t.Errorf("%d stored messages", n)
	}
}

// TestEachMessageOnce sends through restarts of all of RCCS, from an outbox
// file, to a device that connects again as well.
func TestEachMessageOnce(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	url := nodeURL(h.node)
	const count = 3000
	desktop := h.device("alice/desktop", client.Options{Batch: true})
	phone := h.device("alice/phone", client.Options{Outbox: filepath.Join(t.TempDir(), "outbox")})
	got := make(chan string, 2*count)
	ctx, cancel := context.WithCancel(t.Context())
	var handled error
	done := make(chan struct{})
	go func() {
		defer close(done)
		desktop.Handle("", func(_ context.Context, m *client.Message) error {
			got <- string(m.Payload)
			return nil
		})
		handled = desktop.Serve(ctx)
	}()
	for n := range count {
		e, err := client.Compose("note", n, client.To("desktop"))
		if err != nil {
			t.Fatal(err)
		}
		if err := phone.Enqueue(e); err != nil {
			t.Fatal(err)
		}
		if n%1000 == 999 {
			h.stop()
			h.startAt(url)
			phone.Retry()
			desktop.Retry()
		}
	}
	seen := make([]bool, count)
	for range count {
		select {
		case payload := <-got:
			n, err := strconv.Atoi(payload)
			if err != nil || seen[n] {
				t.Fatalf("message %s came twice, %v", payload, err)
			}
			seen[n] = true
		case <-time.After(3 * testkit.Patience):
			t.Fatalf("message %d did not come", slices.Index(seen, false))
		}
	}
	cancel()
	testkit.Await(t, "the end", done)
	if !errors.Is(handled, context.Canceled) || len(got) > 0 {
		t.Errorf("ended with %v, %d too many", handled, len(got))
	}
}

// TestEachMessageOnceThroughCuts cuts all connections again and again,
// wherever a frame is just then. Send is used from several goroutines.
func TestEachMessageOnceThroughCuts(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	network := natstest.NewProxy(t, h.node.Addr().String())
	const senders, each = 4, 400
	device := func(name string) *client.Client {
		return dial(t, "ws://"+network.Addr(), client.Options{Credentials: nodeCredentials(h.node, name, time.Hour), Batch: true})
	}
	desktop, phone := device("alice/desktop"), device("alice/phone")
	var wg sync.WaitGroup
	for from := range senders {
		wg.Go(func() {
			for n := range each {
				if _, err := phone.SendJSON(t.Context(), "note", []int{from, n}, client.To("desktop")); err != nil {
					t.Errorf("sender %d, message %d: %v", from, n, err)
					return
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*testkit.Patience)
	defer cancel()
	var next [senders]int
	for got := range senders * each {
		m, err := desktop.Receive(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", got, err)
		}
		var v [2]int
		if err := m.Decode(&v); err != nil || next[v[0]] != v[1] {
			t.Fatalf("message %v of %d, want number %d, %v", v, v[0], next[v[0]], err)
		}
		next[v[0]]++
		m.Ack()
		if got%100 == 50 {
			network.Drop()
			phone.Retry()
			desktop.Retry()
		}
	}
	wg.Wait()
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if m, err := desktop.Receive(ctx); err == nil {
		t.Errorf("then came %s", m.Payload)
	}
}

func TestCredentialIsRenewed(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	address := subjects.Address{User: "alice", Device: "phone"}
	short := nodeCredentials(h.node, address.String(), 20*time.Second)
	c := dial(t, nodeURL(h.node), client.Options{Credentials: short, OnDisconnect: func(err error) {
		t.Errorf("disconnected: %v", err)
	}})
	first := c.Session().Expires
	for deadline := time.Now().Add(testkit.Patience); !c.Session().Expires.After(first.Add(2 * time.Second)); {
		if time.Now().After(deadline) {
			t.Fatalf("the credential still ends at %s", c.Session().Expires)
		}
		<-time.After(10 * time.Millisecond)
	}
	if _, err := c.SendJSON(testkit.Soon(t), "note", 1, client.To("phone")); err != nil {
		t.Error(err)
	}
}
