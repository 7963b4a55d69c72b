package edge

import (
	"testing"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/wire"
)

// untraced is a connection of an edge that records nothing, and a message on it.
func untraced() (*conn, *wire.Envelope, []envelope.Delivery) {
	e := wire.NewEnvelope("m", "note", nil)
	e.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	return &conn{s: &Server{}}, &e, []envelope.Delivery{{Message: &envelope.Message{Seq: 7}}}
}

// pass is what tracing adds to the way of one message: at its receipt, its
// delivery and its acknowledgement.
func pass(c *conn, e *wire.Envelope, all []envelope.Delivery, seqs []uint64) {
	if c.waiter(e) == nil {
		return
	}
	c.record(all)
	c.recordAcked(0, seqs, nil)
	_ = c.trace(7)
}

func TestTracingThatIsOffCostsNoMemory(t *testing.T) {
	c, e, all := untraced()
	seqs := []uint64{7}
	if n := testing.AllocsPerRun(100, func() { pass(c, e, all, seqs) }); n > 0 {
		t.Errorf("%v allocations a message", n)
	}
	if c.recorded.all != nil {
		t.Error("something was recorded")
	}
}

func BenchmarkTracingOff(b *testing.B) {
	c, e, all := untraced()
	seqs := []uint64{7}
	b.ReportAllocs()
	for b.Loop() {
		pass(c, e, all, seqs)
	}
}
