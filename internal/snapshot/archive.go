package snapshot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive" // the format alone, not the server
)

// An archive is a sequence of entries: the stream's state, its consumers, its
// messages in order, and an entry without a name at the end.
const (
	stateEntry     = "state.json"
	consumerPrefix = "consumers/"
)

// errCut says that an archive ends before its end.
var errCut = errors.New("the archive is cut off")

// maxSmall bounds what is read into memory of a state or a consumer.
const maxSmall = 64 << 20

// rewrite copies an archive and says what is in it. It leaves out consumers
// that end with those who made them, and puts each change in the place of the
// message of its subject.
func rewrite(r io.Reader, w io.Writer, changes map[string]change) (*Stream, error) {
	return copyArchive(r, w, &copier{changes: changes})
}

func copyArchive(r io.Reader, w io.Writer, c *copier) (*Stream, error) {
	out := s2.NewWriter(w, s2.WriterBlockSize(writerBlock))
	c.r, c.w, c.out = archive.NewReader(s2.NewReader(r)), archive.NewWriter(out), &Stream{}
	err := c.run()
	return c.out, errors.Join(err, out.Close())
}

type copier struct {
	r       *archive.Reader
	w       *archive.Writer
	changes map[string]change
	ours    bool           // it must be one that rewrite has written
	most    uint64         // with ours: how many bytes its messages have
	edit    func(*Message) // nil: messages stay as they are
	state   map[string]json.RawMessage
	at      int64    // when the snapshot was taken
	kept    [][]byte // consumers
	held    int      // bytes of consumers
	names   []string // of consumers, as they stand in the archive
	out     *Stream
}

func (c *copier) run() error {
	consumers, err := c.readState()
	if err != nil {
		return err
	}
	for range consumers {
		if err := c.readConsumer(); err != nil {
			return err
		}
	}
	if err := c.writeHead(); err != nil {
		return err
	}
	for {
		end, err := c.message()
		if err != nil {
			return err
		}
		if end {
			break
		}
	}
	if err := c.writeChanges(); err != nil {
		return err
	}
	return c.w.WriteHeader(&archive.Header{})
}

// readState reads the first entry, and what it says of how many consumers
// follow.
func (c *copier) readState() (consumers int, err error) {
	h, err := c.next()
	if err != nil {
		return 0, err
	}
	if h.Name != stateEntry {
		return 0, fmt.Errorf("the archive begins with %q instead of %q: is the server older than 2.15?", h.Name, stateEntry)
	}
	body, err := c.small(h)
	if err != nil {
		return 0, err
	}
	var s struct {
		state
		Consumers int `json:"consumer_count"`
	}
	if err := errors.Join(json.Unmarshal(body, &s), json.Unmarshal(body, &c.state)); err != nil {
		return 0, fmt.Errorf("%s: %w", stateEntry, err)
	}
	c.at, c.out.First, c.out.Last = h.Timestamp, s.First, s.Last
	for _, change := range c.changes {
		c.out.Last = max(c.out.Last, change.seq)
	}
	if c.out.Last > 0 {
		c.out.First = max(c.out.First, 1) // it was 0, of a stream without messages that has some by now
	}
	return s.Consumers, nil
}

func (c *copier) readConsumer() error {
	h, err := c.next()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(h.Name, consumerPrefix) {
		return fmt.Errorf("the archive has %q in the place of a consumer", h.Name)
	}
	body, err := c.small(h)
	if err != nil {
		return err
	}
	var consumer struct {
		Config struct {
			Name    string `json:"name"`
			Durable string `json:"durable_name"`
		} `json:"config"`
	}
	if err := json.Unmarshal(body, &consumer); err != nil {
		return fmt.Errorf("%q: %w", h.Name, err)
	}
	if d := consumer.Config.Durable; c.ours {
		// The server makes a directory of the name.
		name := cmp.Or(consumer.Config.Name, d)
		if d == "" || strings.ContainsAny(d, " \t\r\n\f.*>/\\\x00") || name != d || h.Name != consumerPrefix+d {
			return fmt.Errorf("the archive has a consumer %q in the place of %q", d, h.Name)
		}
	}
	if c.held += len(body); c.held > maxSmall {
		return fmt.Errorf("the archive has consumers of more than %d bytes", maxSmall)
	}
	if consumer.Config.Durable != "" {
		c.kept, c.names = append(c.kept, body), append(c.names, h.Name)
	}
	return nil
}

// writeHead writes the state, as it is with the changes, and the consumers.
func (c *copier) writeHead() error {
	for key, value := range map[string]any{
		"last_seq": c.out.Last, "consumer_count": len(c.kept), "first_seq": c.out.First,
	} {
		body, err := json.Marshal(value)
		if err != nil {
			return err
		}
		c.state[key] = body
	}
	body, err := json.Marshal(c.state)
	if err != nil {
		return err
	}
	if err := c.entry(stateEntry, body); err != nil {
		return err
	}
	for i, body := range c.kept {
		if err := c.entry(c.names[i], body); err != nil {
			return err
		}
	}
	c.out.Consumers = len(c.kept)
	return nil
}

func (c *copier) entry(name string, body []byte) error {
	if err := c.w.WriteHeader(&archive.Header{Name: name, Timestamp: c.at, PayloadSize: int64(len(body))}); err != nil {
		return err
	}
	_, err := c.w.Write(body)
	return err
}

// message copies one message, unless there is a newer one of its subject.
func (c *copier) message() (end bool, err error) {
	h, err := c.next()
	switch {
	case err != nil:
		return false, err
	case *h == (archive.Header{}):
		return true, nil
	case h.Sequence == 0:
		return false, fmt.Errorf("the archive has %q among the messages", h.Name)
	}
	if _, newer := c.changes[h.Name]; newer {
		return false, nil
	}
	if c.edit != nil {
		m, err := c.content(h)
		if err != nil {
			return false, err
		}
		c.edit(m)
		return false, c.add(m)
	}
	if size := uint64(len(h.Name)) + uint64(h.HeaderSize) + uint64(h.PayloadSize); c.ours && size > c.most-c.out.Bytes { //nolint:gosec // the reader refuses negative sizes
		return false, fmt.Errorf("the archive has more than the %d bytes of messages that its manifest says", c.most)
	}
	if err := c.w.WriteHeader(h); err != nil {
		return false, err
	}
	n, err := io.Copy(c.w, c.r)
	switch {
	case err != nil:
		return false, err
	case n != h.HeaderSize+h.PayloadSize:
		return false, errCut
	}
	c.count(h)
	return false, nil
}

func (c *copier) writeChanges() error {
	last := make([]change, 0, len(c.changes))
	for _, one := range c.changes {
		last = append(last, one)
	}
	slices.SortFunc(last, func(a, b change) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	for _, one := range last {
		if err := c.add(&Message{Subject: one.subject, Seq: one.seq, Time: one.at, Header: one.header, Body: one.body}); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) count(h *archive.Header) {
	c.out.Messages++
	c.out.Largest = max(c.out.Largest, int(h.HeaderSize+h.PayloadSize))
	c.out.Bytes += uint64(len(h.Name)) + uint64(h.HeaderSize) + uint64(h.PayloadSize) //nolint:gosec // the reader refuses negative sizes
}

func (c *copier) next() (*archive.Header, error) {
	h, err := c.r.Next()
	if errors.Is(err, io.EOF) {
		return nil, errCut
	}
	return h, err
}

func (c *copier) small(h *archive.Header) ([]byte, error) {
	size := h.HeaderSize + h.PayloadSize
	if size > maxSmall {
		return nil, fmt.Errorf("%q is too large: %d bytes", h.Name, size)
	}
	body, err := io.ReadAll(c.r)
	if err == nil && int64(len(body)) != size {
		err = errCut
	}
	return body, err
}

// Inspect reads an archive that [Source.Take] has written to its end and says what
// is in it, but for its name and configuration, which stand elsewhere. It refuses
// what Take does not write, since a server believes what it is given: earlier
// formats, names of consumers that are paths, what fills the memory, and more than so
// many bytes of messages.
func Inspect(r io.Reader, bytes uint64) (*Stream, error) {
	s, err := copyArchive(r, io.Discard, &copier{ours: true, most: bytes})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return s, nil
}
