package client

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strconv"

	"github.com/rccs-io/rccs/wire"
)

// journal is the file of an outbox: a record for each message that was put in
// and for each id that was taken out. A record is a line
//
//   - LENGTH CRC BODY     the envelope of a message
//   - LENGTH CRC BODY     the id of one that is not kept any more
//
// with the length in bytes and the CRC-32 (IEEE) of the body in hexadecimal.
// What follows the last whole record was cut off by the end of a process, and
// is dropped. Its owner guards it.
type journal struct {
	path   string
	f      *os.File
	size   int64
	broken error // why nothing more is written
}

// wasteBytes is how much of a file may be of no more use before it is written
// anew.
const wasteBytes = 1 << 20

// openJournal opens or makes the file, and returns what it keeps, in order.
func openJournal(path string) (*journal, []*spooled, error) {
	f, err := openLocked(path)
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	kept, whole := readJournal(text)
	j := &journal{path: path, f: f, size: int64(whole)}
	frames := make([][]byte, len(kept))
	for i, m := range kept {
		frames[i] = m.frame
	}
	if whole < len(text) || j.wasteful(total(frames)) {
		if err := j.rewrite(frames); err != nil {
			_ = j.f.Close()
			return nil, nil, err
		}
	}
	return j, kept, nil
}

func total(frames [][]byte) (n int64) {
	for _, frame := range frames {
		n += int64(len(frame))
	}
	return n
}

// openLocked opens a file that no other process may have open like this.
func openLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is in use: give each client a file of its own: %w", path, err)
	}
	return f, nil
}

// readJournal reads records; whole is where the last whole one ends.
func readJournal(text []byte) (kept []*spooled, whole int) {
	byID := make(map[string]bool)
	var all []*spooled
	for {
		kind, body, n := readRecord(text[whole:])
		if n == 0 {
			break
		}
		whole += n
		if kind == '-' {
			delete(byID, string(body))
			continue
		}
		items, err := wire.DecodeFrame(nil, body)
		if err != nil || len(items) != 1 || items[0].Err != nil {
			continue // of a version that allowed more
		}
		byID[items[0].ID] = true
		all = append(all, &spooled{id: items[0].ID, frame: bytes.Clone(body)})
	}
	// The last one of an id counts; it was put in after the others were out.
	for _, m := range slices.Backward(all) {
		if byID[m.id] {
			kept = append(kept, m)
			delete(byID, m.id)
		}
	}
	slices.Reverse(kept)
	return kept, whole
}

// readRecord reads one record of n bytes; n is 0 when it is not whole.
func readRecord(text []byte) (kind byte, body []byte, n int) {
	head := bytes.SplitN(text[:min(len(text), 64)], []byte{' '}, 4)
	if len(head) != 4 || len(head[0]) != 1 || head[0][0] != '+' && head[0][0] != '-' {
		return 0, nil, 0
	}
	length, err := strconv.ParseUint(string(head[1]), 10, 31)
	sum, badSum := strconv.ParseUint(string(head[2]), 16, 32)
	at := len(head[0]) + len(head[1]) + len(head[2]) + 3
	if err != nil || badSum != nil || len(text)-at <= int(length) || text[at+int(length)] != '\n' {
		return 0, nil, 0
	}
	body = text[at : at+int(length)]
	if crc32.ChecksumIEEE(body) != uint32(sum) {
		return 0, nil, 0
	}
	return head[0][0], body, at + int(length) + 1
}

func appendRecord(dst []byte, kind byte, body []byte) []byte {
	dst = fmt.Appendf(dst, "%c %d %x ", kind, len(body), crc32.ChecksumIEEE(body))
	return append(append(dst, body...), '\n')
}

func (j *journal) put(frame []byte) error { return j.write(appendRecord(nil, '+', frame)) }
func (j *journal) remove(id string) error { return j.write(appendRecord(nil, '-', []byte(id))) }

func (j *journal) write(record []byte) error {
	if j.broken != nil {
		return j.broken
	}
	n, err := j.f.Write(record)
	if err == nil {
		j.size += int64(n)
		return nil
	}
	// Half a record would hide all that come after it.
	if cut := j.f.Truncate(j.size); cut != nil {
		j.broken = errors.Join(err, cut)
	}
	return err
}

// wasteful reports whether the file is worth writing anew, to keep live bytes.
func (j *journal) wasteful(live int64) bool {
	return j.size > wasteBytes && j.size > 2*live
}

// rewrite replaces the file by one with these messages only.
func (j *journal) rewrite(frames [][]byte) error {
	next := j.path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := openLocked(next)
	if err != nil {
		return err
	}
	var text []byte
	for _, frame := range frames {
		text = appendRecord(text, '+', frame)
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	_ = j.f.Close() // its name is the new one's
	j.f, j.size = f, int64(len(text))
	return nil
}

func (j *journal) close() error { return j.f.Close() }
