package leader

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// answer is what a server of a stream with three copies says. heard is how long ago
// it heard from each of the others; 0: never.
func answer(leader string, last uint64, heard ...time.Duration) *jetstream.StreamInfo {
	info := &jetstream.StreamInfo{
		Config: jetstream.StreamConfig{Replicas: 3}, State: jetstream.StreamState{LastSeq: last},
		Cluster: &jetstream.ClusterInfo{Leader: leader},
	}
	for _, ago := range heard {
		info.Cluster.Replicas = append(info.Cluster.Replicas, &jetstream.PeerInfo{Current: ago > 0, Active: ago})
	}
	return info
}

const second = time.Second

// storedNow has the answer say that something was stored a year from now.
func storedNow(info *jetstream.StreamInfo) *jetstream.StreamInfo {
	info.State.LastTime = time.Now().AddDate(1, 0, 0)
	return info
}

func TestAnEndBelowWhatIsKnownIsBelievedOfAProvenLeaderOnly(t *testing.T) {
	t.Parallel()
	const end = 100
	for name, test := range map[string]struct {
		// answers come in turn, each for the time before the next; the last stays.
		answers []*jetstream.StreamInfo
		each    time.Duration
		last    uint64 // of the answer that is believed; 0: none is
		within  time.Duration
	}{
		"the end is there":            {[]*jetstream.StreamInfo{answer("a", 100, second, second)}, 0, 100, 0},
		"one copy":                    {[]*jetstream.StreamInfo{{Config: jetstream.StreamConfig{Replicas: 1}, State: jetstream.StreamState{LastSeq: 7}}}, 0, 7, 0},
		"nobody leads, then one does": {[]*jetstream.StreamInfo{answer("", 90, second, second, second), answer("b", 100, second, 0)}, 9 * second, 100, 10 * second},
		"nobody leads, but has it":    {[]*jetstream.StreamInfo{answer("", 101)}, 0, 101, 0},
		"nobody ever leads":           {[]*jetstream.StreamInfo{answer("", 90, second, second, second)}, 0, 0, timeout},
		"the leader has lost its end": {[]*jetstream.StreamInfo{answer("a", 90, second, second)}, 0, 90, settled + second},
		"one copy of two is away":     {[]*jetstream.StreamInfo{answer("a", 90, 0, second)}, 0, 90, settled + second},
		"a leader that still applies what was stored": {
			[]*jetstream.StreamInfo{answer("a", 90, second, second), answer("a", 95, second, second), answer("a", 100, second, second)}, 5 * second, 100, 10 * second,
		},
		"no other copy was ever seen": {[]*jetstream.StreamInfo{answer("a", 90, 0, 0)}, 0, 0, timeout},
		"a leader that was paused": {
			[]*jetstream.StreamInfo{answer("a", 90, 20*second, 20*second), answer("", 90), answer("b", 100, second, second)}, second, 100, 3 * second,
		},
		"two that contend": {
			[]*jetstream.StreamInfo{answer("a", 90, second, second), answer("b", 100, second, second)}, 2 * second, 100, 3 * second,
		},
		"one that is cut off": {[]*jetstream.StreamInfo{answer("a", 90, timeout, timeout)}, 0, 0, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				info, err := decide(t.Context(), known{end: end, enough: true}, func(context.Context) (*jetstream.StreamInfo, error) {
					i := 0
					if test.each > 0 {
						i = min(int(time.Since(began)/test.each), len(test.answers)-1)
					}
					return test.answers[i], nil
				})
				took := time.Since(began)
				switch {
				case test.last == 0 && (!errors.Is(err, errNone) || took < timeout):
					t.Errorf("after %s %+v, %v, want no leader", took, info, err)
				case test.last != 0 && (err != nil || info.State.LastSeq != test.last || took > test.within):
					t.Errorf("after %s %+v, %v, want %d within %s", took, info, err, test.last, test.within)
				}
			})
		})
	}
}

func TestTheStateIsTheLeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		info, err := decide(t.Context(), known{}, func(ctx context.Context) (*jetstream.StreamInfo, error) {
			switch since := time.Since(began); {
			case since < 2*second:
				return answer("", 90), nil
			case since < 8*second:
				<-ctx.Done() // the servers wait for each other
				return nil, ctx.Err()
			case since < 9*second:
				return nil, nats.ErrNoResponders
			}
			return answer("a", 100, second, second), nil
		})
		if err != nil || info.Cluster.Leader != "a" {
			t.Errorf("%+v, %v", info, err)
		}
		_, err = decide(t.Context(), known{}, func(context.Context) (*jetstream.StreamInfo, error) { return nil, jetstream.ErrStreamNotFound })
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("%v for a stream that is not there", err)
		}
	})
}

func TestAnAnswerIsBelievedOfALeaderThatTheOthersFollow(t *testing.T) {
	t.Parallel()
	const end = 100
	for name, test := range map[string]struct {
		answers []*jetstream.StreamInfo // each for a second; the last stays
		last    uint64
		within  time.Duration
	}{
		"the leader":             {[]*jetstream.StreamInfo{answer("a", 100, second, 0)}, 100, 0},
		"one copy":               {[]*jetstream.StreamInfo{{Config: jetstream.StreamConfig{Replicas: 1}, State: jetstream.StreamState{LastSeq: 7}}}, 7, 0},
		"nobody leads":           {[]*jetstream.StreamInfo{answer("", 101), answer("b", 102, second, second)}, 102, 2 * second},
		"one that was paused":    {[]*jetstream.StreamInfo{answer("a", 101, 9*second, 9*second), answer("b", 102, second, second)}, 102, 2 * second},
		"it lacks what is known": {[]*jetstream.StreamInfo{answer("a", 99, second/10, second/10), answer("b", 102, second, second)}, 102, 2 * second},
		"the end is lost":        {[]*jetstream.StreamInfo{answer("a", 99, second, second)}, 99, settled + second},
		"lost, and stored anew":  {[]*jetstream.StreamInfo{answer("a", 97, second, second), storedNow(answer("a", 98, second, second))}, 98, confirm + second},
		"nobody follows it":      {[]*jetstream.StreamInfo{answer("a", 101, timeout, 0)}, 0, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				info, err := decide(t.Context(), known{end: end}, func(context.Context) (*jetstream.StreamInfo, error) {
					return test.answers[min(int(time.Since(began)/second), len(test.answers)-1)], nil
				})
				took := time.Since(began)
				if test.last == 0 {
					if !errors.Is(err, errNone) {
						t.Errorf("after %s %+v, %v, want no leader", took, info, err)
					}
				} else if err != nil || info.State.LastSeq != test.last || took > test.within {
					t.Errorf("after %s %+v, %v, want %d within %s", took, info, err, test.last, test.within)
				}
			})
		})
	}
}
