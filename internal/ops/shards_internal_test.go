package ops

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// A shard that does not answer for ten seconds delays a list by ten seconds, not each of
// several such shards by as many: the first ones end here only when all have been asked.
func TestShardsThatDoNotAnswerAreWaitedForTogether(t *testing.T) {
	t.Parallel()
	all := &Tenant{parts: []*Tenant{{}, {}, {}}}
	silent := errors.New("no answer")
	var asked sync.WaitGroup
	asked.Add(len(all.parts))
	list := func(part *Tenant) (string, error) {
		asked.Done()
		together := make(chan struct{})
		go func() { asked.Wait(); close(together) }()
		select {
		case <-together:
		case <-testkit.Soon(t).Done():
			return "", errors.New("the others were not asked meanwhile")
		}
		if part == all.parts[1] {
			return "lost", silent
		}
		return map[*Tenant]string{all.parts[0]: "a", all.parts[2]: "c"}[part], nil
	}
	var got []string
	err := eachPart(t.Context(), all, list, func(one string) { got = append(got, one) })
	var partial *PartialError
	if !errors.As(err, &partial) || !slices.Equal(partial.Missing, []int{1}) || partial.Of != 3 || !errors.Is(err, silent) {
		t.Errorf("the error is %v", err)
	}
	if !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("the list is %q", got)
	}
}

func TestAListThatIsGivenUpIsNotTakenForAPartOfOne(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	all := &Tenant{parts: []*Tenant{{}, {}}}
	err := eachPart(ctx, all, func(part *Tenant) (int, error) {
		if part == all.parts[1] {
			cancel()
			return 0, ctx.Err()
		}
		return 1, nil
	}, func(int) {})
	if partial := (*PartialError)(nil); !errors.Is(err, context.Canceled) || errors.As(err, &partial) {
		t.Errorf("the error is %v", err)
	}
}

func TestProgressOverShardsIsTheSumOfTheirs(t *testing.T) {
	t.Parallel()
	var told [][2]int
	sum := sumOf(func(done, all int) { told = append(told, [2]int{done, all}) })
	one, other := sum(), sum()
	one(1, 10)
	other(2, 5)
	one(10, 10)
	if want := [][2]int{{1, 10}, {3, 15}, {12, 15}}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
