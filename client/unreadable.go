package client

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/rccs-io/rccs/wire"
)

// topicSeqs is where the sequences of topics begin, which nobody acknowledges.
const topicSeqs = 1 << 52

// readFrame decodes a frame into dst. Each envelope that cannot be read is given
// to unreadable, and is not in the answer; the others are.
func readFrame(dst []wire.Item, frame []byte, unreadable func(text []byte, why error)) []wire.Item {
	items, err := wire.DecodeFrame(dst, frame)
	if err == nil && !slices.ContainsFunc(items[len(dst):], func(item wire.Item) bool { return item.Err != nil }) {
		return items
	}
	items = items[:len(dst)]
	for _, text := range envelopesIn(frame) {
		one, err := wire.DecodeFrame(items, text)
		switch last := len(one) - 1; {
		case err != nil:
			unreadable(text, err)
		case one[last].Err != nil:
			unreadable(text, one[last].Err)
		default:
			items = one
		}
	}
	return items
}

// envelopesIn are the texts of the envelopes in a frame, which may not be JSON.
// One that has none is all of it one text.
func envelopesIn(frame []byte) (texts [][]byte) {
	t := tokens{b: frame}
	from := -1
	for t.next() {
		switch {
		case from < 0 && t.c == '{' && t.depth == t.envelope():
			from = t.i - 1
		case from >= 0 && t.c == '}' && t.depth == t.envelope()-1:
			texts = append(texts, frame[from:t.i])
			from = -1
		}
	}
	if from >= 0 {
		texts = append(texts, frame[from:]) // it was cut off
	}
	if texts == nil {
		return [][]byte{frame}
	}
	return texts
}

// seqsIn are the seqs of the durable messages in a text that cannot be read,
// as far as it looks like envelopes: members "seq" of the outermost objects.
func seqsIn(text []byte) (seqs []uint64) {
	t := tokens{b: text}
	for t.next() {
		if t.c != '"' || t.depth != t.envelope() || string(t.text) != `"seq"` {
			continue
		}
		rest, ok := bytes.CutPrefix(bytes.TrimLeft(text[t.i:], " \t\r\n"), []byte{':'})
		rest = bytes.TrimLeft(rest, " \t\r\n")
		end := 0
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		seq, err := strconv.ParseUint(string(rest[:end]), 10, 63)
		if ok && err == nil && seq > 0 && seq < topicSeqs {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// tokens goes through a text that may not be JSON, bracket by bracket and string
// by string. It does not recurse, so that no depth is too much for it.
type tokens struct {
	b     []byte
	i     int
	depth int    // after the token
	array bool   // the outermost bracket is one of an array
	c     byte   // '{', '}', '[', ']' or '"'
	text  []byte // of a string, with its quotes
}

// envelope is how deep an envelope's members stand.
func (t *tokens) envelope() int {
	if t.array {
		return 2
	}
	return 1
}

func (t *tokens) next() bool {
	for t.i < len(t.b) {
		t.c = t.b[t.i]
		t.i++
		switch t.c {
		case '{', '[':
			if t.depth == 0 {
				t.array = t.c == '['
			}
			t.depth++
			return true
		case '}', ']':
			t.depth--
			return true
		case '"':
			t.string()
			return true
		}
	}
	return false
}

// string reads on to the end of a string.
func (t *tokens) string() {
	from := t.i - 1
	for t.i < len(t.b) && t.b[t.i] != '"' {
		if t.b[t.i] == '\\' {
			t.i++
		}
		t.i++
	}
	t.i = min(t.i+1, len(t.b))
	t.text = t.b[from:t.i]
}
