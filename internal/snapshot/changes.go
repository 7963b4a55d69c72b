package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
)

const (
	// changesBatch is how many changes are read at once.
	changesBatch = 1000
	// changesTimeout bounds how long changes are followed that do not end.
	changesTimeout = time.Minute
	// lagPause is how long a copy that lags is left to catch up.
	lagPause = 20 * time.Millisecond
)

// added are the headers that the server adds to an answer of Direct Get,
// behind what the publisher set.
var added = []string{
	"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence",
}

// change is a message that was stored while a snapshot was read.
type change struct {
	subject string
	seq     uint64
	at      int64
	header  []byte
	body    []byte
}

// changes reads what was stored since a snapshot began, of a stream that keeps
// one message for each subject.
//
// It ends when the store has nothing above what was read last. Then a message
// that was replaced, before or behind the reader, has its successor among what
// was read: the successor was stored before the reader came past the one it
// replaced, and so before the end.
func (s *Source) changes(ctx context.Context, stream string, got *snapshotAnswer) (map[string]change, error) {
	var config struct {
		PerSubject int64 `json:"max_msgs_per_subject"`
		Direct     bool  `json:"allow_direct"`
	}
	if err := json.Unmarshal(got.Config, &config); err != nil {
		return nil, fmt.Errorf("unreadable configuration: %w", err)
	}
	if config.PerSubject != 1 {
		return nil, nil
	}
	if !config.Direct {
		return nil, errors.New("it keeps one message for each subject and does not allow direct reads:" +
			" what changes meanwhile cannot be read; set allow_direct")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, changesTimeout, fmt.Errorf("it changes faster than it can be read, for %s", changesTimeout))
	defer cancel()
	all, err := s.follow(ctx, stream, got.State.Last)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return all, err
}

// follow reads from after a sequence to the end.
func (s *Source) follow(ctx context.Context, stream string, after uint64) (map[string]change, error) {
	all := make(map[string]change)
	leader, err := s.leader(ctx, stream)
	if err != nil {
		return nil, err
	}
	for {
		msgs, err := s.Direct.Run(ctx, stream, after+1, changesBatch)
		if err != nil {
			return nil, err
		}
		for i := range msgs {
			all[msgs[i].Subject] = newChange(&msgs[i])
			after = msgs[i].Seq
		}
		if len(msgs) > 0 {
			continue
		}
		done, err := s.reached(ctx, stream, after, &leader)
		if err != nil || done {
			return all, err
		}
		select {
		case <-time.After(lagPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reached reports whether there is nothing more to wait for above a sequence. A
// copy of the stream that answered may lag behind the leader, and the leader's
// last message may have been removed since, when its age ended.
func (s *Source) reached(ctx context.Context, stream string, after uint64, leader *state) (bool, error) {
	if after >= leader.Last || leader.Messages == 0 {
		return true, nil
	}
	var got answer
	err := ask(ctx, s.Conn, "$JS.API.STREAM.MSG.GET."+stream, map[string]any{"seq": after + 1, "next_by_subj": ">"}, &got)
	if got.Error != nil && got.Error.Code == 404 {
		return true, nil
	}
	return false, err
}

func newChange(m *direct.Stored) change {
	return change{subject: m.Subject, seq: m.Seq, at: m.Time, header: encodeHeader(m.Header), body: m.Data}
}

// encodeHeader gives headers the form in which NATS stores them, without those
// that the server added.
func encodeHeader(h nats.Header) []byte {
	h = maps.Clone(h)
	for _, key := range added {
		if values := h[key]; len(values) > 0 {
			h[key] = values[:len(values)-1]
		}
	}
	return storedHeader(h)
}

// storedHeader gives headers the form in which NATS stores them.
func storedHeader(h nats.Header) []byte {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[key] {
			fmt.Fprintf(&b, "%s: %s\r\n", key, value)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return []byte("NATS/1.0\r\n" + b.String() + "\r\n")
}
