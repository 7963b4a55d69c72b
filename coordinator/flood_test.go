package coordinator_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/subjects"
)

// A device that asks more than it can be answered, and goes, keeps nobody
// waiting.
func TestFloodOfOneDeviceKeepsNoNeighbourWaiting(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	flood, neighbour := p.device("alice/flood"), p.device("alice/neighbour")
	for _, endpoint := range []string{"fetch", "ack", "send", "up"} {
		for range 5200 {
			err := flood.nc.PublishMsg(&nats.Msg{
				Subject: subjects.DeviceEndpoint(flood.key, endpoint), Reply: flood.nc.NewInbox(), Data: []byte(`{"wait":30000,"seq":1}`),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if all := neighbour.fetch(map[string]any{"limit": 1}); len(all) != 0 {
			t.Errorf("the neighbour fetched %v", all)
		}
		if took := time.Since(began); took > 25*time.Second { // the flood waits for 30 s
			t.Errorf("after a flood of %s the neighbour waited %s", endpoint, took)
		}
	}
}

func TestNewerFetchEndsTheOlder(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	d := p.device("alice/phone")
	older := make(chan time.Duration, 1)
	inbox := d.nc.NewInbox()
	began := time.Now()
	sub, err := d.nc.Subscribe(inbox, func(*nats.Msg) { older <- time.Since(began) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := d.nc.PublishRequest(subjects.DeviceEndpoint(d.key, "fetch"), inbox, []byte(`{"wait":30000}`)); err != nil {
		t.Fatal(err)
	}
	for range 10 { // the first may be looked at before the one that is to be older
		d.fetch(map[string]any{"wait": 500})
		if len(older) > 0 {
			break
		}
	}
	select {
	case took := <-older:
		if took > 25*time.Second {
			t.Errorf("the older fetch was answered after %s", took)
		}
	default:
		t.Error("the older fetch goes on waiting")
	}
}
