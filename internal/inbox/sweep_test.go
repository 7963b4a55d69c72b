package inbox_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// Devices that come back together after a restart get what each of them missed,
// in order, from one read of the stream, while messages keep coming.
func TestManyWhoComeBackAreServedByOneSweep(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	const devices, missed = 400, 4
	keys := make([]subjects.Key, devices)
	for n := range keys {
		keys[n] = subjects.Address{User: "u", Device: subjects.DeviceID(fmt.Sprint(n))}.Key()
	}
	for i := range missed {
		for _, k := range keys {
			s.put(k, subjects.Lane(i%2), i, 1)
		}
	}
	s.stop()
	var log testkit.Log
	s.start(func(o *inbox.Options) { // it has nothing in memory
		o.Logger = log.Logger(slog.LevelDebug)
		o.TailMessages = 64
	})
	var wg sync.WaitGroup
	boxes := make([]*device, devices)
	for n, k := range keys {
		wg.Go(func() { boxes[n] = s.attachNow(k, 10) })
	}
	for i := range 100 { // the tail goes on
		s.put(keys[i], subjects.Critical, 100, 1)
	}
	wg.Wait()
	for n, d := range boxes {
		want := missed
		if n < 100 {
			want++
		}
		got := map[subjects.Lane]string{}
		for _, m := range d.receive(want) {
			got[m.Lane] += string(m.Data) + " "
		}
		if got[0] != "0 2 " || got[1] != "1 3 " {
			t.Errorf("device %d: got %v", n, got)
		}
	}
	if log.Count("stream swept") == 0 {
		t.Error("the stream was not swept")
	}
}
