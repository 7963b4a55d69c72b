package chaos_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
)

// What a service sends to whichever device comes is accepted. That the tenant's
// store is full when one does come passes by itself: the message waits until
// there is room.
func TestFault_ARouteWaitsUntilTheLimitIsRaised(t *testing.T) {
	t.Parallel()
	s := newSingle(t, t.TempDir())
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	known := s.device(receiver, client.Options{})
	eventually(t, "the device is registered", func() bool { return known.Session().ID != "" }, new(string))
	if err := known.Close(); err != nil {
		t.Fatal(err)
	}
	nc := s.service()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	const routed, many = 1_000_000, 4000
	s.limit("40MB")
	// What nobody acknowledges makes no room. There is none for a larger one.
	if store(t, nc, subjects.Address{User: receiver.User, Device: "away"}, many, 200_000) == many {
		t.Fatal("the limit is no bound")
	}
	listed := ""
	eventually(t, "the device is offline", func() bool {
		_, listed = s.command(s.data, "devices", "ls", "--json")
		return strings.Contains(strings.ReplaceAll(listed, " ", ""), `"status":"offline"`)
	}, &listed)
	if _, err := js.Publish(ctx, "rccs.route."+string(receiver.User)+".any", fmt.Appendf(nil, `{"n":%d,"filler":%q}`, routed, strings.Repeat("x", 250_000))); err != nil {
		t.Fatal(err)
	}
	r := s.receive(receiver)
	eventually(t, "routing is tried", func() bool {
		log, err := os.ReadFile(s.logPath())
		return err == nil && strings.Contains(string(log), "routing interrupted")
	}, new(string))
	if r.has(routed) {
		t.Fatal("it came though there was no room")
	}
	s.limit("600MB")
	eventually(t, "the message comes when there is room", func() bool { return r.has(routed) }, new(string))
}

// limit sets what the tenant may store.
func (s *single) limit(bytes string) {
	s.t.Helper()
	if status, out := s.command(s.data, "tenants", "set", "default", "--max-storage", bytes); status != 0 {
		s.t.Fatalf("tenants set: %s", out)
	}
}

// has reports whether a number came.
func (r *received) has(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[n] > 0
}
