package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// journal is what one device received over many connections. It fails the test
// on a gap, a double or a swap.
type journal struct {
	t      testing.TB
	random *rand.Rand
	visit  int
	seen   map[uint64]int // seq to lane
	acked  map[uint64]acknowledgement
	ids    map[string]uint64
	visits []visit
}

// acknowledgement is when a message was acknowledged. Not sure means that the server
// may not have heard, or not stored, the acknowledgement; and vague, that it
// may not cover the message.
type acknowledgement struct {
	visit       int
	sure, vague bool
}

// visit is what came over one connection, by lane.
type visit struct {
	got  [4][]uint64
	kind string
}

func newJournal(t testing.TB) *journal {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &journal{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), seen: map[uint64]int{}, acked: map[uint64]acknowledgement{}, ids: map[string]uint64{},
	}
}

// begin opens a visit.
func (j *journal) begin(kind string) {
	j.visit = len(j.visits)
	j.visits = append(j.visits, visit{kind: kind})
}

// note records a message and checks what can be checked at once.
func (j *journal) note(e envelope) {
	j.t.Helper()
	if !e.durable() || e.Type == "ack" || e.Type == "error" || e.Priority == nil {
		j.t.Fatalf("want a message, got %s", e.raw)
	}
	lane, v := *e.Priority, &j.visits[j.visit]
	if got := v.got[lane]; len(got) > 0 && e.Seq <= got[len(got)-1] {
		j.t.Fatalf("visit %d (%s): in lane %d came %d after %d", j.visit, v.kind, lane, e.Seq, got[len(got)-1])
	}
	if a, ok := j.acked[e.Seq]; ok && a.sure && a.visit < j.visit {
		j.t.Fatalf("visit %d (%s): %d was acknowledged in visit %d and came again", j.visit, v.kind, e.Seq, a.visit)
	}
	if _, before := j.seen[e.Seq]; before && !e.Redelivered {
		j.t.Fatalf("visit %d (%s): %d came again and is not called redelivered", j.visit, v.kind, e.Seq)
	}
	if before, ok := j.ids[e.ID+e.FromDeviceID]; ok && before != e.Seq {
		j.t.Fatalf("visit %d (%s): %s is stored twice, as %d and %d", j.visit, v.kind, e.ID, before, e.Seq)
	}
	j.ids[e.ID+e.FromDeviceID] = e.Seq
	j.seen[e.Seq] = lane
	v.got[lane] = append(v.got[lane], e.Seq)
}

// live reads about count messages, acknowledging as clients do: not at all, one
// by one, several, or all up to one.
func (j *journal) live(d *device, count, window int) {
	j.t.Helper()
	var open []uint64
	for range count {
		if len(open) >= window {
			j.acknowledge(d, &open)
		}
		e := d.message()
		j.note(e)
		open = append(open, e.Seq)
		if j.random.IntN(3) == 0 {
			j.acknowledge(d, &open)
		}
	}
	d.beat() // so the server has heard them
	for seq, a := range j.acked {
		if a.visit == j.visit && !a.vague {
			a.sure = true
			j.acked[seq] = a
		}
	}
	j.rest(d)
}

// acknowledge acknowledges some of what is open, at least one.
func (j *journal) acknowledge(d *device, open *[]uint64) {
	j.t.Helper()
	slices.Sort(*open)
	n := 1 + j.random.IntN(len(*open))
	switch j.random.IntN(3) {
	case 0:
		for _, seq := range (*open)[:n] {
			d.acknowledge(object{"seq": seq})
		}
	case 1:
		j.random.Shuffle(len(*open), func(a, b int) { (*open)[a], (*open)[b] = (*open)[b], (*open)[a] })
		d.ack((*open)[:n]...)
	case 2:
		d.acknowledge(object{"upTo": (*open)[n-1]})
		// What the connection was sent and the test has not looked at is
		// acknowledged too, if it is below; it may be in another lane.
		j.skip(d, (*open)[n-1])
	}
	for _, seq := range (*open)[:n] {
		j.acked[seq] = acknowledgement{visit: j.visit}
	}
	*open = slices.Delete(*open, 0, n)
}

// skip notes that upTo covers what was sent, though the test has not looked at
// it yet: a beat brings all of that, and some that was sent later.
func (j *journal) skip(d *device, upTo uint64) {
	j.t.Helper()
	d.beat()
	for _, e := range d.early {
		if e.Seq <= upTo {
			j.acked[e.Seq] = acknowledgement{visit: j.visit, vague: true}
		}
	}
}

// rest records what came while the test looked elsewhere.
func (j *journal) rest(d *device) {
	j.t.Helper()
	for _, e := range d.early {
		if e.durable() {
			j.note(e)
		}
	}
	d.early = nil
}

// doubt says that acknowledgements of the last moments before a kill may be
// lost: on a busy machine those of the whole visit.
func (j *journal) doubt() {
	for seq, a := range j.acked {
		if a.visit == j.visit {
			a.sure = false
			j.acked[seq] = a
		}
	}
}

// finish reads and acknowledges until everything accepted was seen, and shows
// that nothing is left then.
func (j *journal) finish(s *server, name string, accepted map[string]uint64) {
	j.t.Helper()
	j.begin("last")
	d := connect(j.t, s, name, nil)
	missing := map[uint64]bool{}
	for _, seq := range accepted {
		if _, ok := j.acked[seq]; !ok {
			missing[seq] = true
		}
	}
	for len(missing) > 0 {
		e := d.message()
		j.note(e)
		delete(missing, e.Seq)
		d.ack(e.Seq)
	}
	d.beat()
	d.leave()
	j.complete()
}

// complete looks for gaps: on each connection, what came in a lane is all that
// was there from the first message not acknowledged to the last that came.
func (j *journal) complete() {
	j.t.Helper()
	var lanes [4][]uint64
	for seq, lane := range j.seen {
		lanes[lane] = append(lanes[lane], seq)
	}
	for lane := range lanes {
		slices.Sort(lanes[lane])
		for n, v := range j.visits {
			got := v.got[lane]
			if len(got) == 0 {
				continue
			}
			came := map[uint64]bool{}
			for _, seq := range got {
				came[seq] = true
			}
			for _, seq := range lanes[lane] {
				if seq > got[len(got)-1] {
					break
				}
				if a, ok := j.acked[seq]; !came[seq] && (!ok || a.visit > n) {
					j.t.Errorf("visit %d (%s): lane %d has %d between %d and %d, and it did not come", n, v.kind, lane, seq, got[0], got[len(got)-1])
					return
				}
			}
		}
	}
}

func (j *journal) String() string {
	return fmt.Sprintf("%d visits, %d messages, %d acknowledged", len(j.visits), len(j.seen), len(j.acked))
}
