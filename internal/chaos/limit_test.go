package chaos_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"

	"github.com/rccs-io/rccs/auth"
)

// The limit of a tenant is changed with the keys of one server, at another one.
// The bounds of the streams follow it, down and up: a limit counts all copies, and
// each stream has its part of one.
func TestFault_StreamsOfAClusterFollowATenantsLimit(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	defer c.health()
	keys, at := c.procs[0], c.procs[1]
	for _, megabytes := range []int64{30, 600, 6} {
		out, err := keys.run("tenants", "set", auth.DefaultTenant, "--max-storage", strconv.FormatInt(megabytes, 10)+"MB",
			"--data", keys.data(), "--server", "nats://"+at.NATS)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want := megabytes * 1_000_000 / servers
		eventually(t, "the share to be "+strconv.FormatInt(want, 10), func() bool {
			out, err = at.run("tenants", "ls", "--json", "--data", at.data(), "--server", "nats://"+at.NATS)
			var rows []struct{ Share int64 }
			err = errors.Join(err, json.Unmarshal([]byte(out), &rows))
			return err == nil && len(rows) == 1 && rows[0].Share == want
		}, &out)
	}
}
