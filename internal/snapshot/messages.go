package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive" // as in archive.go
	"github.com/nats-io/nats.go"
)

// Message is one of an archive.
type Message struct {
	Subject string
	Seq     uint64
	Time    int64  // when it was stored, Unix nanoseconds
	Header  []byte // as NATS stores it; empty: it has none
	Body    []byte
}

// Headers are those of the message; nil: it has none, or they cannot be read.
func (m *Message) Headers() nats.Header {
	h, err := nats.DecodeHeadersMsg(m.Header)
	if err != nil {
		return nil
	}
	return h
}

// SetHeaders replaces those of the message.
func (m *Message) SetHeaders(h nats.Header) { m.Header = storedHeader(h) }

// Reader reads the messages of an archive that [Source.Take] has written. It is for
// one goroutine.
type Reader struct{ c copier }

// NewReader reads an archive up to its first message.
func NewReader(r io.Reader) (*Reader, error) {
	one := &Reader{copier{r: archive.NewReader(s2.NewReader(r)), out: &Stream{}}}
	consumers, err := one.c.readState()
	for n := 0; err == nil && n < consumers; n++ {
		err = one.c.readConsumer()
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return one, nil
}

// Next returns the next message, or [io.EOF].
func (r *Reader) Next() (*Message, error) {
	h, err := r.c.next()
	switch {
	case err != nil:
		return nil, fmt.Errorf("snapshot: %w", err)
	case *h == (archive.Header{}):
		return nil, io.EOF
	}
	return r.c.content(h)
}

// content is the message that an entry is.
func (c *copier) content(h *archive.Header) (*Message, error) {
	if h.Sequence == 0 {
		return nil, fmt.Errorf("snapshot: the archive has %q among the messages", h.Name)
	}
	content, err := c.small(h)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &Message{Subject: h.Name, Seq: h.Sequence, Time: h.Timestamp, Header: content[:h.HeaderSize], Body: content[h.HeaderSize:]}, nil
}

// Writer makes an archive of messages. It is for one goroutine.
type Writer struct {
	c   copier
	out *s2.Writer
}

// writerBlock is how much a writer holds in memory before it compresses it: dozens
// may be open at once. A server that restores the archive stores a block at a time.
const writerBlock = 64 << 10

// NewWriter begins the archive of a stream whose messages are between two sequences.
func NewWriter(w io.Writer, first, last uint64) (*Writer, error) {
	out := s2.NewWriter(w, s2.WriterConcurrency(1), s2.WriterBlockSize(writerBlock))
	one := &Writer{copier{w: archive.NewWriter(out), at: time.Now().UnixNano(), out: &Stream{First: first, Last: last}, state: map[string]json.RawMessage{}}, out}
	if err := one.c.writeHead(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return one, nil
}

// Add adds a message. Its sequence must be above that of the one before.
func (w *Writer) Add(m *Message) error {
	if err := w.c.add(m); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Close ends the archive, and returns what is in it.
func (w *Writer) Close() (*Stream, error) {
	if err := errors.Join(w.c.w.WriteHeader(&archive.Header{}), w.out.Close()); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return w.c.out, nil
}

// add writes a message.
func (c *copier) add(m *Message) error {
	h := &archive.Header{
		Name: m.Subject, Sequence: m.Seq, Timestamp: m.Time, HeaderSize: int64(len(m.Header)), PayloadSize: int64(len(m.Body)),
	}
	if err := c.w.WriteHeader(h); err != nil {
		return err
	}
	for _, part := range [][]byte{m.Header, m.Body} {
		if _, err := c.w.Write(part); err != nil {
			return err
		}
	}
	c.count(h)
	return nil
}

// Edit copies an archive that [Source.Take] has written, with its consumers, and
// says what is in it. edit may change headers and body of a message.
func Edit(r io.Reader, w io.Writer, edit func(*Message)) (*Stream, error) {
	s, err := copyArchive(r, w, &copier{edit: edit})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return s, nil
}
