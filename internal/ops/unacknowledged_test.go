package ops_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/ops"
)

// What devices have not acknowledged is counted for a page of the largest size.
func TestUnacknowledgedOfManyDevices(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const many = 1000
	p.fill(many, 2)
	devices := make([]*ops.Device, many)
	for d := range devices {
		a := numbered(d)
		devices[d] = &ops.Device{User: string(a.User), Device: string(a.Device)}
	}
	counts, err := p.Unacknowledged(t.Context(), devices)
	check(t, err)
	for d, n := range counts {
		if n != 2 {
			t.Fatalf("device %d has %d, want 2", d, n)
		}
	}
}
