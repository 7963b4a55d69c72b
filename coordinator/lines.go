package coordinator

import (
	"cmp"
	"math"
	"slices"
)

// lines are waiting messages by sender. Senders take turns.
type lines []*line

// line has the waiting messages of one sender, in the order of storage.
type line struct {
	sender  string
	waiting []*routed
}

// of returns the line of a sender, which is made if there is none.
func (l *lines) of(sender string) *line {
	for _, one := range *l {
		if one.sender == sender {
			return one
		}
	}
	one := &line{sender: sender}
	*l = append(*l, one)
	return one
}

// add adds the newest message.
func (l *lines) add(m *routed) {
	one := l.of(m.sender)
	one.waiting = append(one.waiting, m)
}

// heard gives a message its sender, which was unknown.
func (l *lines) heard(m *routed, sender string) {
	from := l.of(unknown)
	if n, found := slices.BinarySearchFunc(from.waiting, m, bySeq); found {
		from.waiting = slices.Delete(from.waiting, n, n+1)
	}
	m.sender = sender
	to := l.of(sender)
	n, _ := slices.BinarySearchFunc(to.waiting, m, bySeq)
	to.waiting = slices.Insert(to.waiting, n, m)
	l.tidy()
}

// tidy removes the lines that have nothing waiting.
func (l *lines) tidy() {
	*l = slices.DeleteFunc(*l, func(one *line) bool { return len(one.waiting) == 0 })
}

func bySeq(a, b *routed) int { return cmp.Compare(a.seq, b.seq) }

func (l lines) len() (n int) {
	for _, one := range l {
		n += len(one.waiting)
	}
	return n
}

// take takes up to most messages, the same number from each sender. Senders from which
// it takes none come first the next time. A message of an unknown sender may be any
// sender's. So it is taken when no earlier message is left, and later messages are
// taken after it.
func (l *lines) take(most int) []*routed {
	bound := uint64(math.MaxUint64)
	for _, one := range *l {
		if one.sender == unknown {
			bound = one.waiting[0].seq
		}
	}
	before := 0 // how many senders have some below the bound
	for _, one := range *l {
		if one.waiting[0].seq < bound {
			before++
		}
	}
	if before == 0 {
		return l.takeUnknown(most)
	}
	each := max(most/before, 1)
	var some []*routed
	var untouched, rest lines
	for _, one := range *l {
		n := min(each, one.below(bound), most-len(some))
		some = append(some, one.waiting[:n]...)
		if one.waiting = one.waiting[n:]; n == 0 {
			untouched = append(untouched, one)
		} else if len(one.waiting) > 0 {
			rest = append(rest, one)
		}
	}
	*l = append(untouched, rest...)
	return some
}

// below returns how many messages have sequences below a bound.
func (one *line) below(bound uint64) int {
	n, _ := slices.BinarySearchFunc(one.waiting, bound, func(m *routed, bound uint64) int { return cmp.Compare(m.seq, bound) })
	return n
}

// takeUnknown takes up to most messages of unknown senders, as long as they are the
// oldest of all.
func (l *lines) takeUnknown(most int) (some []*routed) {
	for len(some) < most && len(*l) > 0 {
		one := slices.MinFunc(*l, func(a, b *line) int { return bySeq(a.waiting[0], b.waiting[0]) })
		if one.sender != unknown {
			break
		}
		some = append(some, one.waiting[0])
		if one.waiting = one.waiting[1:]; len(one.waiting) == 0 {
			l.tidy()
		}
	}
	return some
}

// inTurns orders messages by the turns of their senders. senders is how many
// senders can be told apart.
func inTurns(all []*routed) (ordered []*routed, senders int) {
	if slices.ContainsFunc(all, func(m *routed) bool { return m.sender == unknown }) {
		slices.SortFunc(all, bySeq)
		return all, 1
	}
	var l lines
	for _, m := range all {
		l.add(m)
	}
	senders = len(l)
	for len(l) > 1 {
		ordered = append(ordered, l.take(len(l))...)
	}
	if len(l) == 1 {
		ordered = append(ordered, l[0].waiting...)
	}
	return ordered, senders
}
