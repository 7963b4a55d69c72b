package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/ops"
)

// askTurns is in how many looks each stream that answers is asked once. To ask all
// each time would be a load of tenants times streams times processes.
const askTurns = 8

// answerWatch knows which streams have no leader, or one that answers nobody. Whatever
// publishes to them waits meanwhile, and nothing else tells of it.
type answerWatch struct {
	js     jetstream.JetStream
	needed func(name string) bool
	bound  time.Duration // ops.SilentFor
	within time.Duration // pollTimeout
	now    atomic.Pointer[[]silentStream]

	// Of the goroutine that looks.
	turn  int
	asked map[string]*askedStream
}

// silentStream is one that does not answer.
type silentStream struct{ name, what string }

// askedStream is what is known of a stream by asking it.
type askedStream struct {
	leader     string    // the last that answered
	unanswered int       // questions since then
	since      time.Time // when the first of those was asked
	leaderless bool      // the last of them was answered, by a server that knows of no leader
}

func newAnswerWatch(js jetstream.JetStream, needed func(name string) bool) *answerWatch {
	return &answerWatch{js: js, needed: needed, bound: ops.SilentFor, within: pollTimeout, asked: make(map[string]*askedStream)}
}

// poll asks those streams whose turn it is, and those that did not answer last time.
func (s *answerWatch) poll(ctx context.Context, names []string) {
	s.turn++
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := false
	asked := make(map[string]*askedStream, len(names)) // without those that nobody needs any more
	for i, name := range names {
		if !s.needed(name) {
			continue
		}
		of := s.asked[name]
		if of == nil {
			of = new(askedStream)
		}
		asked[name] = of
		if of.unanswered == 0 && (i+s.turn)%askTurns != 0 {
			continue
		}
		wg.Go(func() {
			if !s.ask(ctx, name, of) {
				mu.Lock()
				defer mu.Unlock()
				failed = true
			}
		})
	}
	wg.Wait()
	s.asked = asked
	if failed && !s.connected(ctx) {
		for _, of := range asked {
			of.unanswered = 0
		}
	}
	s.report()
}

// ask asks a stream, and reports whether its leader has answered.
func (s *answerWatch) ask(ctx context.Context, name string, a *askedStream) bool {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	asked := time.Now()
	stream, err := s.js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound): // it is missing, which is another fault
		*a = askedStream{}
		return true
	case err == nil && leader.Answered(stream.CachedInfo()):
		*a = askedStream{}
		if c := stream.CachedInfo().Cluster; c != nil {
			a.leader = c.Leader
		}
		return true
	}
	if a.unanswered == 0 {
		a.since = asked
	}
	a.unanswered++
	a.leaderless = err == nil
	return false
}

// connected reports whether the connection answers. If it does not, nothing is known
// of any stream.
func (s *answerWatch) connected(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	return s.js.Conn().FlushWithContext(ctx) == nil
}

// report sets what [answerWatch.healthy] returns.
func (s *answerWatch) report() {
	var silent []silentStream
	for name, a := range s.asked {
		switch {
		case a.unanswered < ops.SilentAsked || time.Since(a.since) < s.bound:
		case a.leaderless:
			silent = append(silent, silentStream{name, "stream " + name + " has no leader: " + ops.FindLeader})
		default:
			silent = append(silent, silentStream{name, "stream " + name + " answers nobody: " + ops.WakeLeader(s.js.Conn(), name, a.leader)})
		}
	}
	slices.SortFunc(silent, func(a, b silentStream) int { return strings.Compare(a.name, b.name) })
	s.now.Store(&silent)
}

// healthy returns which streams do not answer, of those whose names are needed.
func (s *answerWatch) healthy(needed func(name string) bool) error {
	silent := s.now.Load()
	if silent == nil {
		return nil
	}
	var all []string
	for _, one := range *silent {
		if needed(one.name) {
			all = append(all, one.what)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}
