package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/storeerr"
)

// putTimeout bounds the storing of one chunk, and of what is left at the end.
const putTimeout = 2 * time.Minute

// room is what a chunk leaves of the largest message, for its subject.
const room = 4 << 10

// Put makes a stream from an archive that [Source.Take] has written, and checks
// that all of it is there. The stream must not exist. Progress is called with
// the number of bytes that the server has taken more.
//
// copies is on how many servers the stream is to be: 1 with one server.
func Put(ctx context.Context, nc *nats.Conn, s *Stream, copies int, r io.Reader, progress func(int)) error {
	if err := put(ctx, nc, s, copies, r, progress); err != nil {
		return fmt.Errorf("snapshot: stream %s: %w", s.Name, err)
	}
	return nil
}

func put(ctx context.Context, nc *nats.Conn, s *Stream, copies int, r io.Reader, progress func(int)) error {
	c, err := parseConfig(s, copies)
	if err != nil {
		return err
	}
	var got struct {
		answer
		Deliver string `json:"deliver_subject"`
	}
	// Nothing goes by age until it has been counted. What is stored may be larger than
	// what may be published now.
	begin := func() error {
		return ask(ctx, nc, "$JS.API.STREAM.RESTORE."+s.Name, map[string]any{
			"config": c.open(), "state": map[string]any{"first_seq": s.First, "last_seq": s.Last, "messages": s.Messages},
		}, &got)
	}
	if err = begin(); storeerr.NoRoomAnywhere(err) && c.unbound() {
		got.Error = nil
		err = begin()
	}
	if err != nil {
		return err
	}
	have, err := send(ctx, nc, got.Deliver, r, progress)
	if err != nil {
		return err
	}
	if err := s.compare(have, c); err != nil {
		return err
	}
	if c.bounded {
		return ask(ctx, nc, "$JS.API.STREAM.UPDATE."+s.Name, c.fields, new(answer))
	}
	return nil
}

// The server breaks a restore off when a piece takes it more than 5 s to store, so a slow
// store gets small ones.
const (
	leastPiece = 4 << 10
	firstPiece = 16 << 10
	fastPiece  = 60 * time.Millisecond  // the next one is larger
	slowPiece  = 250 * time.Millisecond // the next one is smaller
)

// pieceAfter returns how large the next piece may be, when one of a size took so long.
func pieceAfter(size int, took time.Duration, most int) int {
	switch {
	case took > slowPiece:
		size /= 2
	case took < fastPiece:
		size *= 2
	}
	return min(max(size, leastPiece), most)
}

// send hands the archive over, a piece at a time.
func send(ctx context.Context, nc *nats.Conn, subject string, r io.Reader, progress func(int)) (state, error) {
	buf := make([]byte, max(1<<10, min(chunkSize, nc.MaxPayload()-room)))
	for size := min(firstPiece, len(buf)); ; {
		n, err := io.ReadFull(r, buf[:size])
		if n > 0 {
			began := time.Now()
			if err := store(ctx, nc, subject, buf[:n]); err != nil {
				return state{}, err
			}
			size = pieceAfter(size, time.Since(began), len(buf))
			progress(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return state{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, nil)
	if err != nil {
		return state{}, err
	}
	var got struct {
		answer
		State state `json:"state"`
	}
	err = read(m.Data, &got)
	return got.State, err
}

func store(ctx context.Context, nc *nats.Conn, subject string, piece []byte) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, piece)
	if err != nil || len(m.Data) == 0 {
		return err
	}
	return read(m.Data, new(answer)) // it tells why it broke off
}

// compare says what of the archive is not in the stream. Where messages are
// kept until they are due, those may have moved on already, and where each may have
// a time to live, theirs may have ended.
func (s *Stream) compare(have state, c *config) error {
	if have.Last == s.Last && (have.Messages == s.Messages || c.ttls && have.Messages < s.Messages) {
		return nil
	}
	if c.schedules && have.Last > s.Last && have.Messages+have.Last-s.Last >= s.Messages {
		return nil
	}
	return fmt.Errorf("restored are %d messages up to sequence %d, and the archive has %d up to %d",
		have.Messages, have.Last, s.Messages, s.Last)
}

// config is a stream's configuration, without knowing all of its fields.
type config struct {
	fields    map[string]json.RawMessage
	bounded   bool // by age, or in the size of a message
	schedules bool
	ttls      bool // of messages
}

func parseConfig(s *Stream, copies int) (*config, error) {
	c := &config{}
	var known struct {
		Name      string `json:"name"`
		MaxAge    int64  `json:"max_age"`
		MaxSize   int64  `json:"max_msg_size"`
		Schedules bool   `json:"allow_msg_schedules"`
		TTLs      bool   `json:"allow_msg_ttl"`
	}
	if err := errors.Join(json.Unmarshal(s.Config, &c.fields), json.Unmarshal(s.Config, &known)); err != nil {
		return nil, fmt.Errorf("unreadable configuration: %w", err)
	}
	if known.Name != s.Name {
		return nil, fmt.Errorf("the configuration is that of stream %q", known.Name)
	}
	c.bounded, c.schedules, c.ttls = known.MaxAge != 0 || known.MaxSize > 0, known.Schedules, known.TTLs
	c.fields["num_replicas"] = fmt.Append(nil, copies)
	delete(c.fields, "placement")
	delete(c.fields, "persist_mode") // earlier versions wrote cursors behind
	return c, nil
}

// unbound drops the bound in bytes, if there is one: a server sets aside what it allows,
// and a smaller store than the one of the backup may have room for what is stored and
// not for that. Streams of RCCS get bounds by the store that they are in, at the start.
func (c *config) unbound() bool {
	if _, bounded := c.fields["max_bytes"]; !bounded {
		return false
	}
	delete(c.fields, "max_bytes")
	return true
}

// open is the configuration without the bounds that would refuse or remove what is
// restored.
func (c *config) open() map[string]json.RawMessage {
	all := maps.Clone(c.fields)
	all["max_age"], all["max_msg_size"] = json.RawMessage("0"), json.RawMessage("-1")
	return all
}
