package inbox_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
)

// logbook is a log that a test looks into.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

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
	var log logbook
	s.start(func(o *inbox.Options) { // it has nothing in memory
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
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
	if log.count("stream swept") == 0 {
		t.Error("the stream was not swept")
	}
}
