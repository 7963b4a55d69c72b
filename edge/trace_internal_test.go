package edge

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// untraced is a connection of an edge that records nothing, and messages on it.
func untraced() (*conn, *burst) {
	place := nats.Header{subjects.HeaderTrace: {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	return &conn{s: &Server{}}, &burst{
		deliveries: []envelope.Delivery{{Message: &envelope.Message{Seq: 7, Header: place}}},
		topics:     []*topic.Message{{Seq: 8, Header: place}},
		seqs:       []uint64{7},
	}
}

// pass is what tracing adds to the way of one message: at its delivery and its
// acknowledgement. At its receipt, the intake looks whether it has a tracer.
func pass(c *conn, b *burst) {
	c.record(b)
	c.recordTopics(b.topics)
	c.recordAcked(0, b.seqs, "")
	_ = c.trace(7)
	endSpan(nil, "")
}

func TestTracingThatIsOffCostsNoMemory(t *testing.T) {
	c, b := untraced()
	if n := testing.AllocsPerRun(100, func() { pass(c, b) }); n > 0 {
		t.Errorf("%v allocations a message", n)
	}
	if c.recorded.all != nil {
		t.Error("something was recorded")
	}
}

func BenchmarkTracingOff(b *testing.B) {
	c, burst := untraced()
	b.ReportAllocs()
	for b.Loop() {
		pass(c, burst)
	}
}
