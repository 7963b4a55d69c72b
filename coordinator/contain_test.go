package coordinator_test

import (
	"context"
	"testing"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// faultyEnroller has a fault wherever it is asked for something.
type faultyEnroller struct{}

func (faultyEnroller) Enroll(context.Context, []byte, string) (*wire.Enrolled, error) {
	panic("a fault while a request is handled") //nolint:forbidigo // the fault that is tested
}

func (faultyEnroller) Renew(context.Context, []byte, subjects.Address) (*wire.Enrolled, error) {
	panic("a fault while a request is handled") //nolint:forbidigo // the fault that is tested
}

func (faultyEnroller) NewCode(context.Context, []byte) (*enroll.Code, error) {
	panic("a fault while a request is handled") //nolint:forbidigo // the fault that is tested
}

func TestPanicOfARequestIsContainedToIt(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, err := coordinator.New(coordinator.Options{Dial: p.dial, Enroller: faultyEnroller{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(p.ctx()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.WithoutCancel(t.Context())) })
	for range 20 { // more than there are workers
		if code := p.ask("enroll", struct{}{}, nil); code != string(wire.Internal) {
			t.Fatalf("the request was answered %q, want INTERNAL", code)
		}
	}
	if code := p.ask("devices", struct{}{}, nil); code != "" {
		t.Errorf("the next request was answered %s", code)
	}
}
