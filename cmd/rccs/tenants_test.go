package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A limit that what is stored has passed already would keep devices from
// acknowledging, and with that from ever making room.
func TestALimitBelowWhatIsStoredIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "tenants", "add", "acme")
	js, err := jetstream.New(i.part(t, "acme"), jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BULK", Subjects: []string{"bulk"}})
	testkit.Check(t, err)
	for range 4 {
		_, err := js.Publish(t.Context(), "bulk", make([]byte, 500_000))
		testkit.Check(t, err)
	}
	limit := func() int64 {
		keys, err := auth.OpenKeystore(i.data)
		testkit.Check(t, err)
		acme, err := keys.Tenant("acme")
		testkit.Check(t, err)
		limits, err := acme.Limits()
		testkit.Check(t, err)
		return limits.StorageBytes
	}
	for _, before := range []int64{0, 50_000_000} {
		if before != 0 {
			c.succeed(t, "tenants", "set", "acme", "--max-storage", "50MB")
		}
		for _, tooLow := range []string{"1MB", "2MB"} { // it needs some more than it holds
			got := c.run(t, "tenants", "set", "acme", "--max-storage", tooLow)
			got.refused(t, exitFailed, "the tenant stores 1.9 MiB", "nothing was changed", "--max-storage 22")
		}
		if got := limit(); got != before {
			t.Errorf("the limit is %d, and was %d", got, before)
		}
	}
	var acts []struct{ Target, Result, Why string }
	testkit.Check(t, json.Unmarshal([]byte(c.succeed(t, "audit", "--json", "--tenant", "acme").out), &acts))
	refused := 0
	for _, act := range acts {
		if act.Target == "acme" && act.Result == "refused" && strings.Contains(act.Why, "nothing was changed") {
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("the record has %v", acts)
	}
	c.succeed(t, "send", "alice/phone", "1", "--tenant", "acme")
	c.succeed(t, "tenants", "set", "acme", "--max-storage", "3MB")
}

// part connects as a part of a tenant does.
func (i *installation) part(t *testing.T, tenant string) (nc *nats.Conn) {
	t.Helper()
	creds := file(t, i.console().succeed(t, "creds", "part", "edge-1", "--tenant", tenant).out)
	testkit.Eventually(t, "the tenant is served", func() (ok bool) {
		var err error
		nc, err = nats.Connect(i.nats, nats.UserCredentials(creds), nats.CustomInboxPrefix("_RCCS"),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		return err == nil
	})
	t.Cleanup(nc.Close)
	return nc
}
