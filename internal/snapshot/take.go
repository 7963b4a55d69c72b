package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
)

// chunkSize is how much the server sends in a message, and windowSize how much
// it sends before it waits for a sign of life.
const (
	chunkSize  = 256 << 10
	windowSize = 8 << 20
)

// silence is how long the server may send nothing before it is given up. It
// itself gives up after 5 s without a sign of life.
const silence = 30 * time.Second

// Stream is what an archive holds.
type Stream struct {
	Name string `json:"name"`
	// Config is the stream's, as the server gave it.
	Config json.RawMessage `json:"config"`
	// First and Last are the sequences between which the messages are; the
	// stream goes on after Last. First is 1 more than Last when there are none.
	First uint64 `json:"first_seq"`
	Last  uint64 `json:"last_seq"`
	// Messages are how many there are, and Bytes what they have of subject,
	// headers and body.
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	// Largest is how many bytes of headers and body the largest has, where the archive
	// was read.
	Largest int `json:"-"`
	// Consumers are the durable ones.
	Consumers int `json:"consumers"`
}

// Source takes snapshots.
type Source struct {
	// Conn is a connection in the stream's account that may do all there.
	Conn *nats.Conn
	// Direct reads what was stored while a snapshot was taken. It is started.
	Direct *direct.Client
	// Dir is where an archive lies while it is made; "" is the system's
	// directory for such files, which others might read.
	Dir string
}

// snapshotAnswer is what the server says before it sends the snapshot.
type snapshotAnswer struct {
	answer
	Config json.RawMessage `json:"config"`
	State  state           `json:"state"`
}

// state is what of a stream's state is used here.
type state struct {
	Messages uint64 `json:"messages"`
	First    uint64 `json:"first_seq"`
	Last     uint64 `json:"last_seq"`
}

// Take writes an archive of a stream to w. Progress is called with the number
// of bytes that the server has sent more.
func (s *Source) Take(ctx context.Context, stream string, w io.Writer, progress func(int)) (*Stream, error) {
	out, err := s.take(ctx, stream, w, progress)
	if err != nil {
		return nil, fmt.Errorf("snapshot: stream %s: %w", stream, err)
	}
	return out, nil
}

func (s *Source) take(ctx context.Context, stream string, w io.Writer, progress func(int)) (out *Stream, err error) {
	raw, err := os.CreateTemp(s.Dir, ".snapshot-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, raw.Close(), os.Remove(raw.Name())) }()
	got, err := s.receive(ctx, stream, raw, progress)
	if err != nil {
		return nil, err
	}
	changes, err := s.changes(ctx, stream, got)
	if err != nil {
		return nil, err
	}
	if _, err := raw.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	out, err = rewrite(raw, w, changes)
	if err != nil {
		return nil, err
	}
	out.Name, out.Config = stream, got.Config
	return out, nil
}

// receive writes the server's snapshot to w.
func (s *Source) receive(ctx context.Context, stream string, w io.Writer, progress func(int)) (*snapshotAnswer, error) {
	sub, err := s.Conn.SubscribeSync(s.Conn.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil { // bounded by windowSize
		return nil, err
	}
	var got snapshotAnswer
	err = ask(ctx, s.Conn, "$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{
		"deliver_subject": sub.Subject, "chunk_size": chunkSize, "window_size": windowSize,
	}, &got)
	if err != nil {
		return nil, err
	}
	for {
		m, err := next(ctx, sub)
		if err != nil {
			return nil, err
		}
		if len(m.Data) == 0 { // the end, and how it came to it
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return nil, fmt.Errorf("the server broke off: %s %s", status, m.Header.Get("Description"))
			}
			return &got, nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return nil, err
		}
		progress(len(m.Data))
		if m.Reply == "" {
			continue
		}
		if err := m.Respond(nil); err != nil {
			return nil, err
		}
	}
}

func next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, silence, fmt.Errorf("the server sent nothing for %s", silence))
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return m, err
}

// leader asks the stream's leader for its state.
func (s *Source) leader(ctx context.Context, stream string) (state, error) {
	var got struct {
		answer
		State state `json:"state"`
	}
	err := ask(ctx, s.Conn, "$JS.API.STREAM.INFO."+stream, struct{}{}, &got)
	return got.State, err
}
