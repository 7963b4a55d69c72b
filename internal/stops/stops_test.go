package stops_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/stops"
)

// One that does not end keeps the others from nothing, nor what ends behind them.
func TestWhatEndsTogetherWaitsForNoOther(t *testing.T) {
	t.Parallel()
	stuck := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	stopped, err := make(chan bool), make(chan error)
	first, end := context.WithCancel(ctx)
	go func() {
		err <- stops.Together(first, stuck, func(ctx context.Context) error {
			total, _ := first.Deadline()
			own, ok := ctx.Deadline()
			stopped <- ok && total.Sub(own) > 14*time.Minute
			return nil
		})
	}()
	if !<-stopped {
		t.Error("nothing is left of the time")
	}
	end()
	if err := <-err; !errors.Is(err, context.Canceled) {
		t.Errorf("Together returned %v", err)
	}
}

func TestPartsEndInReverseOrderAndOnce(t *testing.T) {
	t.Parallel()
	var s stops.Stack
	var ended []string
	failed := errors.New("did not end")
	s.AddFunc(func() { ended = append(ended, "first") })
	s.Add(func(context.Context) error {
		ended = append(ended, "second")
		return failed
	})
	s.AddFunc(func() { ended = append(ended, "third") })
	if err := s.Stop(t.Context()); !errors.Is(err, failed) {
		t.Errorf("Stop returned %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("the second Stop returned %v", err)
	}
	if want := []string{"third", "second", "first"}; !slices.Equal(ended, want) {
		t.Errorf("%q ended, want %q", ended, want)
	}
}
