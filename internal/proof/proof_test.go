package proof_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/proof"
)

// Different things have different tags: none runs into the next, and a purpose
// is none of the others.
func TestATagIsOfOneThingOnly(t *testing.T) {
	t.Parallel()
	purposes := rapid.SampledFrom([]string{proof.Inbox, proof.Up, proof.Topic, proof.Route, proof.Outcome, proof.Sender, proof.Server, proof.Said, proof.Spoken})
	parts := rapid.SliceOfN(rapid.String(), 1, 4)
	var k *proof.Key
	rapid.Check(t, func(t *rapid.T) {
		p, q := purposes.Draw(t, "purpose"), purposes.Draw(t, "other purpose")
		a, b := parts.Draw(t, "parts"), parts.Draw(t, "other parts")
		same := p == q && len(a) == len(b)
		for i := range a {
			same = same && i < len(b) && a[i] == b[i]
		}
		tag := k.Tag(p, a...)
		if got := k.Is(tag, q, b...); got != same || len(tag) != 24 {
			t.Fatalf("%s of %q and %q of %q: %t", p, a, q, b, got)
		}
	})
}
