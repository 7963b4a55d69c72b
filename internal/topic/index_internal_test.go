package topic

import (
	"strconv"
	"testing"
)

// What the index forgets it does not claim to know: it keeps the last message of
// each topic, and says from where on it knows all.
func TestIndexKnowsWhatItForgets(t *testing.T) {
	t.Parallel()
	var x index
	x.reset(9)
	x.add("quiet", 10)
	seq := uint64(10)
	for range maxSequences {
		seq++
		x.add("busy", seq)
	}
	if x.total > maxSequences || x.floor("quiet") != 9 || x.lastBetween("quiet", 9, seq) != 10 || x.lastBetween("quiet", 10, seq) != 0 {
		t.Errorf("of the quiet topic it knows all above %d, and %d", x.floor("quiet"), x.lastBetween("quiet", 9, seq))
	}
	floor := x.floor("busy")
	if floor < 11+maxSequences/2-1 || floor >= seq || x.lastBetween("busy", floor, floor+2) != floor+1 || x.lastBetween("busy", floor-1, floor+1) != 0 {
		t.Errorf("of the busy topic it knows all above %d of %d", floor, seq)
	}
	if x.lastBetween("busy", seq-1, seq+1) != seq || x.lastBetween("busy", seq, seq+10) != 0 || x.floor("none") != 9 {
		t.Error("the last message is not known")
	}
	for i := range maxTopics {
		seq++
		x.add(strconv.Itoa(i), seq)
	}
	if len(x.topics) > maxTopics || x.floor("quiet") == 9 {
		t.Errorf("%d topics, of the quiet one all above %d", len(x.topics), x.floor("quiet"))
	}
}
