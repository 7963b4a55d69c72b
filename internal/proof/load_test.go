package proof_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/proof"
)

// Versions may be mixed for a day from the first start of one that writes times into
// tags. That day does not begin anew, and a tenant that is made now needs none.
func TestTagsWithoutATimeEndADayAfterTheUpgrade(t *testing.T) {
	t.Parallel()
	js := natstest.Streams(t, natstest.Server(t).Conn(t))
	load := func() *proof.Key {
		t.Helper()
		k, err := proof.Load(t.Context(), js)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if k := load(); k.Untimed(time.Now()) {
		t.Error("a new tenant has tags without a time")
	}
	kv, err := js.KeyValue(t.Context(), layout.BucketAccount)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), layout.SecretEntry)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(entry.Value(), &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "untimed") // as an earlier version left it
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), layout.SecretEntry, body); err != nil {
		t.Fatal(err)
	}
	first := load()
	if now := time.Now(); !first.Untimed(now.Add(23*time.Hour)) || first.Untimed(now.Add(24*time.Hour)) {
		t.Error("tags without a time do not end in a day")
	}
	end := time.Now().Add(24 * time.Hour)
	if again := load(); again.Untimed(end) || first.Tag("x") != again.Tag("x") {
		t.Error("the day began anew, or the key is another one")
	}
}
