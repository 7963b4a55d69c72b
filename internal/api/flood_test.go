package api_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
)

// A service that sends arrays and asks a device that does not answer, as fast as
// it can, takes nobody's places.
func TestAServiceThatFloodsTheAPIKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	p.connect("alice/phone", "")
	p.connect("bob/desk", "")
	flood, other := p.service("flood", auth.ServiceOptions{}), p.service("other", auth.ServiceOptions{})
	array := "[" + strings.Repeat(`{"to":{"user":"alice","device":"phone"},"type":"note","payload":1},`, 99) +
		`{"to":{"user":"alice","device":"phone"},"type":"note","payload":1}]`
	one := func(who http.Header) time.Duration {
		began := time.Now()
		if got := p.do(http.MethodPost, "/v1/messages", `{"to":{"user":"bob"},"type":"note","payload":1}`, who); got.status != http.StatusAccepted {
			t.Errorf("another is told %d %s", got.status, got.body)
		}
		return time.Since(began)
	}
	before := one(other)
	var work sync.WaitGroup
	over := make(chan struct{})
	for n := range 40 {
		work.Go(func() {
			path, body := "/v1/messages", array
			if n%2 == 1 {
				path, body = "/v1/users/alice/devices/phone/requests/silent?timeoutMs=500", "1"
			}
			for {
				select {
				case <-over:
					return
				default:
				}
				if got := p.do(http.MethodPost, path, body, flood); got.status >= 500 && got.status != http.StatusGatewayTimeout && got.status != http.StatusServiceUnavailable {
					t.Errorf("the flood is told %d %s", got.status, got.body)
				}
			}
		})
	}
	var slowest time.Duration
	for range 10 {
		slowest = max(slowest, one(other), one(p.operator()))
	}
	close(over)
	work.Wait()
	t.Logf("the slowest of 20 messages of others took %s meanwhile, and %s before", slowest, before)
}
