package proof_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/testkit"
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

// A process that starts waits for a store that is slow to answer.
func TestTheKeyIsAskedForUntilTheStoreAnswers(t *testing.T) {
	need.Long(t, "a request to the store takes 5 s to fail")
	t.Parallel()
	env := natstest.Server(t, natstest.Listen())
	natstest.Streams(t, env.Conn(t))
	proxy := natstest.NewProxy(t, env.Addr())
	js, err := jetstream.New(natstest.Dial(t, proxy.URL()))
	testkit.Check(t, err)
	proxy.Freeze()
	loaded := make(chan error, 1)
	go func() {
		_, err := proof.Load(t.Context(), js)
		loaded <- err
	}()
	select {
	case err := <-loaded:
		t.Fatalf("it gave up: %v", err)
	case <-time.After(8 * time.Second): // more than one request
	}
	proxy.Heal()
	testkit.Check(t, <-loaded)
}
