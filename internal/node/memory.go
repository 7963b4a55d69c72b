package node

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What thousands of devices needed to register is garbage a moment later. Go keeps
// it: it collects when the heap has grown by as much again, or two minutes after
// the last time, and gives memory back to the system only above what the heap
// may grow to until the next collection. A process that is calm would hold twice
// what its devices need for hours. So memory is given back when there is much of
// it and little is going on.
const (
	memoryEvery = 5 * time.Second
	// Less than memoryLeast is not worth a collection, nor less than a part of
	// what lives: the time that a collection takes grows with that.
	memoryLeast = 16 << 20
	memoryPart  = 4
	// calmPart of it may be allocated between two looks.
	calmPart = 8
)

// memory is what the Go runtime holds, in bytes.
type memory struct {
	live    uint64 // what the last collection found alive
	objects uint64 // with the garbage since
	free    uint64 // of the heap, kept from the system
	total   uint64 // ever allocated
}

// spare is what giving back would free, as far as is known.
func (m *memory) spare() uint64 { return m.objects - min(m.live, m.objects) + m.free }

// worthGivingBack reports whether memory is to be given back now, when the look
// before was at before.
func (m *memory) worthGivingBack(before memory) bool {
	spare := m.spare()
	return spare >= max(memoryLeast, m.live/memoryPart) && m.total-before.total < spare/calmPart
}

// lookAtMemory reads the runtime's figures. It stops nothing.
func lookAtMemory() memory {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(s)
	return memory{live: s[0].Value.Uint64(), objects: s[1].Value.Uint64(), free: s[2].Value.Uint64(), total: s[3].Value.Uint64()}
}

// giveMemoryBack gives memory back to the system when that is worth it, until ctx
// ends.
func giveMemoryBack(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	before := lookAtMemory()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := lookAtMemory()
		if now.worthGivingBack(before) {
			debug.FreeOSMemory()
			log.Debug("memory given back", "spare", now.spare(), "live", now.live)
			now = lookAtMemory()
		}
		before = now
	}
}
