package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// timeout bounds the search for an answer that can be believed.
	timeout = 30 * time.Second
	// attempt bounds one request.
	attempt = 5 * time.Second
	// pause lies between two requests.
	pause = 100 * time.Millisecond
	// confirm is the shortest time over which a server shows that it is the
	// leader. A leader hears from the other copies once a second.
	confirm = 3 * time.Second
	// settled is for how long a leader that lacks what is known must have stored
	// nothing. A new leader has what was stored, but on a starved machine it takes
	// many seconds to apply it, and its end rises meanwhile.
	settled = 6 * time.Second
	// delay is for how long the word of another copy may be on its way.
	delay = time.Second
	// recent is how long ago a leader may last have heard from the other copies. They
	// choose another leader when they have heard nothing from it for 4 s.
	recent = 3 * time.Second
)

// errNone is wrapped by the error of a stream that has no leader, or none that
// can show that it is.
var errNone = errors.New("the stream has no leader for certain")

// Info returns the state of a stream as its leader reports it. A server that was
// paused or cut off is not believed once the others may have chosen another leader.
func Info(ctx context.Context, js jetstream.JetStream, stream string) (*jetstream.StreamInfo, error) {
	return look(ctx, js, stream, known{})
}

// InfoSince returns the state of a stream, as [Info] does, which is known to have
// ended at seq or above. It is for callers that must not miss what was stored before: a
// server that does not have what is known is not believed unless it shows, as in
// [InfoFrom], that it is the leader.
func InfoSince(ctx context.Context, js jetstream.JetStream, stream string, seq uint64) (*jetstream.StreamInfo, error) {
	return look(ctx, js, stream, known{end: seq})
}

// InfoFrom returns the state of a stream whose end is known to have been at seq or
// above. If the state says otherwise, the stream has lost its end, or it is another
// one: the server that answered has shown that it is the leader. That takes some
// seconds.
func InfoFrom(ctx context.Context, js jetstream.JetStream, stream string, seq uint64) (*jetstream.StreamInfo, error) {
	return look(ctx, js, stream, known{end: seq, enough: seq > 0})
}

// known is what is known of a stream before its state is asked for.
type known struct {
	end uint64 // it reached so far; 0: nothing is known
	// enough: a state that reaches so far is believed, whoever answered.
	enough bool
}

func look(ctx context.Context, js jetstream.JetStream, stream string, k known) (*jetstream.StreamInfo, error) {
	info, err := decide(ctx, k, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return nil, err
		}
		return s.CachedInfo(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream, err)
	}
	return info, nil
}

// Answered reports whether the leader of a stream has answered, or a server that
// takes itself for the leader.
func Answered(info *jetstream.StreamInfo) bool {
	return info.Config.Replicas <= 1 || info.Cluster == nil || info.Cluster.Leader != ""
}

// decide asks until it can believe an answer.
func decide(ctx context.Context, k known, ask func(context.Context) (*jetstream.StreamInfo, error)) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var claim claim
	var last error
	for {
		try, done := context.WithTimeout(ctx, attempt)
		info, err := ask(try)
		done()
		switch {
		case err == nil && claim.believe(info, k):
			return info, nil
		case err == nil:
			last = errNone
		case !Unanswered(err):
			return nil, err
		default: // a leader that is gone does not answer
			claim, last = claimNone, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(last, ctx.Err())
		}
	}
}

// Unanswered reports whether a request may be answered if it is sent again.
func Unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders)
}

// claim is the server that takes itself for the leader, and since when it has done
// so in every answer.
type claim struct {
	leader string
	since  time.Time
	end    uint64    // of the stream, in the last answer
	still  time.Time // since when the end is that
}

var claimNone claim

// believe takes an answer, and reports whether it can be believed. A leader has
// shown that it is one if, at the end of a while in which nobody else claimed to
// be, most of the copies follow it that were heard from within that while. Each of
// its answers since then is right, and so is the last. What it lacks it may still
// be applying, though: unless its end has stood still for a while, or what it
// stored last is newer than its claim.
func (c *claim) believe(info *jetstream.StreamInfo, k known) bool {
	reaches := info.State.LastSeq >= k.end
	switch {
	case info.Config.Replicas <= 1 || info.Cluster == nil:
		return true
	case k.enough && reaches:
		return true // whoever answered, this much is stored
	case info.Cluster.Leader == "":
		*c = claimNone
		return false
	case reaches && heardWithin(info, recent):
		return true
	case c.leader != info.Cluster.Leader:
		*c = claim{info.Cluster.Leader, time.Now(), info.State.LastSeq, time.Now()}
		return false
	case c.end != info.State.LastSeq:
		c.end, c.still = info.State.LastSeq, time.Now()
	}
	held := time.Since(c.since)
	applied := reaches || time.Since(c.still) >= settled || info.State.LastTime.After(c.since)
	return applied && held >= confirm && heardWithin(info, held-delay)
}

// heardWithin reports whether most of the copies follow the server that answered: its
// own, and those that it has heard from within that time.
func heardWithin(info *jetstream.StreamInfo, ago time.Duration) bool {
	heard := 0
	for _, p := range info.Cluster.Replicas {
		if !p.Offline && p.Active > 0 && p.Active < ago {
			heard++
		}
	}
	return heard >= info.Config.Replicas/2
}
