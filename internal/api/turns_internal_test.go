package api

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// asService is a request of a service with a body that says nothing of its size.
func asService(name, body string) *call {
	r := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(body))
	r.ContentLength = -1
	return &call{principal: &principal{service: Service{Tenant: "default", Name: name}}, r: r, w: httptest.NewRecorder()}
}

// A service whose requests take long, and that has as many waiting as there is
// room for, leaves workers for others, and is refused alone.
func TestRequestsOfOneServiceKeepNoOtherWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &API{bounds: newBounds()}
		release := make(chan struct{})
		refused := make(chan error, 2*backlog)
		for range workers/2 + backlog + 10 {
			go func() { refused <- a.inTurn(t.Context(), asService("flood", ""), func() { <-release }) }()
		}
		synctest.Wait()
		if len(refused) != 10 {
			t.Errorf("%d of the flood are refused, want 10", len(refused))
		}
		var p *Problem
		if err := <-refused; !errors.As(err, &p) || p.Status != 429 || p.GetHeaders().Get("Retry-After") != "1" {
			t.Errorf("it is told %v", err)
		}
		served := 0
		for range 3 {
			if err := a.inTurn(t.Context(), asService("other", ""), func() { served++ }); err != nil {
				t.Error(err)
			}
		}
		if served != 3 {
			t.Errorf("%d of 3 requests of another service were served", served)
		}
		close(release)
	})
}

func TestBodiesOfOneServiceLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	a := &API{bounds: newBounds()}
	first := asService("flood", strings.Repeat("x", maxBody))
	release, p := a.takeBody(first)
	if p != nil || first.r.ContentLength != maxBody {
		t.Fatalf("%v, and %d bytes were read", p, first.r.ContentLength)
	}
	if _, p := a.takeRoom(first, bodyBytes/2-maxBody); p == nil {
		t.Error("one service has more than half of the room")
	}
	if _, p := a.takeBody(asService("other", "1")); p != nil {
		t.Errorf("another is told %v", p)
	}
	release()
	if _, p := a.takeBody(asService("flood", strings.Repeat("x", maxBody+1))); p == nil || p.Status != 413 {
		t.Errorf("a body that is too large: %v", p)
	}
	if _, p := a.takeRoom(first, bodyBytes/2); p != nil {
		t.Errorf("room that was given back is not there: %v", p)
	}
}

func TestStreamsOfOneServiceLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	a := &API{bounds: newBounds()}
	for range maxStreams / 2 {
		if _, err := a.stream(asService("flood", ""), nil); err != nil {
			t.Fatal(err)
		}
	}
	var p *Problem
	if _, err := a.stream(asService("flood", ""), nil); !errors.As(err, &p) || p.Status != 429 {
		t.Errorf("one more than half of the streams: %v", err)
	}
	if _, err := a.stream(asService("other", ""), nil); err != nil {
		t.Errorf("another's is refused: %v", err)
	}
}
