package stops_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/rccs-io/rccs/internal/stops"
)

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
