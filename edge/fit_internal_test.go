package edge

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// What is taken for fitting fits, and what does not fit is found, to the byte.
func TestFitsKnowsTheFrameOfAMessage(t *testing.T) {
	t.Parallel()
	to := subjects.Address{User: "al\"ice", Device: "pho\\ne"}
	for range 2000 {
		m := &envelope.Message{
			Key: to.Key(), Lane: subjects.Normal, Seq: rand.Uint64N(1 << 52), Stored: time.Now().UnixNano(),
			Header: nats.Header{
				subjects.HeaderID:   {strings.Repeat("\"", 1+rand.IntN(128))},
				subjects.HeaderType: {"x"}, subjects.HeaderFrom: {strings.Repeat("\t", rand.IntN(128))},
			},
			Data:      []byte(`"` + strings.Repeat("x", rand.IntN(2000)) + `"`),
			Authentic: rand.IntN(2) == 0,
		}
		if rand.IntN(2) == 0 {
			m.Data = make([]byte, rand.IntN(2000)) // becomes base64
		}
		before := m.Authentic
		size := len(envelope.Append(nil, &envelope.Delivery{Message: m, Redelivered: true}, to))
		for _, limit := range []int{size - 1, size, 1024, 4096} { // of a type that is the same whoever sent it
			if got := fits(to, limit, m); got != (size <= limit) {
				t.Fatalf("a frame of %d bytes fits %d: %t", size, limit, got)
			}
		}
		if got := m.Authentic; got != before {
			t.Fatalf("whoever looked whether a message fits has changed who wrote it: authentic was %t", before)
		}
	}
}

// What a splitting burst writes is every envelope, in order, in frames that are
// no larger than they may be.
func TestArraysAreSplitAtTheLargestFrame(t *testing.T) {
	t.Parallel()
	for range 200 {
		b := &burst{batch: true, max: 1024}
		w := new(recorder)
		var want []string
		for range 1 + rand.IntN(30) {
			e := `{"x":"` + strings.Repeat("y", rand.IntN(1000)) + `"}`
			want = append(want, e)
			b.frame = append(b.startEnvelope(), e...)
			if err := b.endEnvelope(w); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.flushFrame(w); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, frame := range w.frames {
			if len(frame) > b.max {
				t.Errorf("a frame of %d bytes", len(frame))
			}
			got = append(got, strings.Split(strings.Trim(frame, "[]"), ",")...)
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Fatalf("%d envelopes came as %d", len(want), len(got))
		}
	}
}

// recorder keeps the frames that are written.
type recorder struct{ frames []string }

func (r *recorder) Text(frame []byte) error {
	r.frames = append(r.frames, string(frame))
	return nil
}

func (*recorder) Flush() error { return nil }

// However large devices are, each page of them fits, and all are on some page.
func TestPagesOfDevicesFit(t *testing.T) {
	t.Parallel()
	for range 200 {
		const limit = 1024
		n := 1 + rand.IntN(40)
		seen := 0
		var from string
		all := func() (list []wire.Device) {
			for i := range n {
				d := wire.Device{ID: subjects.DeviceID(strings.Repeat("\"", 100) + string(rune('A'+i))), Type: "t", Status: wire.Online, LastSeen: wire.FormatTime(time.Unix(0, 0))}
				if i%3 == 0 {
					d.Capabilities = []byte(`{"a":"` + strings.Repeat("x", i*200) + `"}`)
				}
				list = append(list, d)
			}
			return list
		}
		for pages := 0; ; pages++ {
			if pages > n {
				t.Fatal("the pages do not end")
			}
			list := wire.DeviceList{OriginalID: strings.Repeat("\"", 64)}
			for _, d := range all() {
				if d.ID >= subjects.DeviceID(from) {
					list.Devices = append(list.Devices, d)
				}
			}
			fitDevices(&list, limit)
			if size := answerLen(len(list.AppendPayload(nil))); size > limit {
				t.Fatalf("a page of %d bytes", size)
			}
			seen += len(list.Devices)
			if from = string(list.Next); from == "" {
				break
			}
		}
		if seen != n {
			t.Fatalf("%d of %d devices came", seen, n)
		}
	}
}
