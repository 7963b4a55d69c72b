package backup_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/backup"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// crowd are users that are spread over shards. Each has a phone that was sent four
// messages and has acknowledged two, another that waits for it, and one that is due
// later.
type crowd struct {
	names  []string
	tokens map[string]string
	due    time.Time
}

const crowdUsers = 8

func newCrowd(t *testing.T, h *home) *crowd {
	t.Helper()
	c := &crowd{tokens: map[string]string{}, due: time.Now().Add(3 * time.Second)}
	for n := range crowdUsers {
		name := fmt.Sprintf("member%d", n)
		c.names = append(c.names, name)
		c.tokens[name] = h.token(name + "/phone")
		p := h.device(c.tokens[name])
		var second uint64
		for i := range 4 {
			if seq := h.send(name+"/phone", strconv.Itoa(i)); i < 2 {
				second = seq
			}
		}
		for i, m := range receive(t, p, 4) {
			if i < 2 {
				m.Ack()
			}
		}
		eventually(t, "the cursor says what was acknowledged", func() bool { return h.acknowledged(name+"/phone", second) })
		_, err := p.SendJSON(soon(t), "note", 5, client.To("phone"), client.WithDeliverAt(c.due), client.WithID("later"))
		check(t, err)
		check(t, p.Close())
		h.send(name+"/phone", "4")
	}
	return c
}

// restored checks that each message of the crowd comes once, and in order, and that
// what is sent then follows.
func (c *crowd) restored(t *testing.T, h *home) {
	t.Helper()
	if n := h.Keys().Shards(); n > 1 {
		used := map[int]bool{}
		for _, name := range c.names {
			used[shard.OfUser(subjects.UserID(name), n)] = true
		}
		if len(used) != n {
			t.Fatalf("the users are in %d shards of %d", len(used), n)
		}
	}
	for _, name := range c.names {
		h.send(name+"/phone", "6")
	}
	for _, name := range c.names {
		p := h.device(c.tokens[name])
		var got []string
		for range 5 {
			m, err := p.Receive(soon(t))
			check(t, err)
			m.Ack()
			got = append(got, string(m.Payload))
			if string(m.Payload) == "5" {
				continue // it may have been due before the backup
			}
			if known := slices.Contains([]string{"2", "3", "4"}, string(m.Payload)); m.Redelivered != known {
				t.Errorf("%s: %s is redelivered: %t", name, m.Payload, m.Redelivered)
			}
		}
		late := slices.Index(got, "5")
		if late >= 0 {
			got = slices.Delete(got, late, late+1)
		}
		if want := []string{"2", "3", "4", "6"}; !slices.Equal(got, want) || late < 0 {
			t.Errorf("%s got %s, want %s, and 5 when it is due", name, got, want)
		}
		if time.Now().Before(c.due) {
			t.Errorf("%s got what is due later before", name)
		}
		devices, err := p.Devices(soon(t))
		if err != nil || len(devices) != 1 {
			t.Errorf("devices of %s are %+v, %v", name, devices, err)
		}
		check(t, p.Close())
	}
	diffs, err := differences(t, h)
	if err != nil || len(diffs) > 0 {
		t.Errorf("streams differ from what they should be: %v, %v", diffs, err)
	}
}

// serveShards is serve for a tenant with so many shards.
func serveShards(t *testing.T, shards int) *home {
	t.Helper()
	return serveWith(t, node.Options{Data: filepath.Join(t.TempDir(), "data"), Shards: shards})
}

func TestATenantWithShardsGoesOnFromABackup(t *testing.T) {
	t.Parallel()
	a := serveShards(t, 2)
	c := newCrowd(t, a)
	path, m := a.save(backup.SaveOptions{})
	if n := m.Shards(""); n != 2 {
		t.Fatalf("the backup has %d shards", n)
	}
	a.stop()
	a.nc = nil
	c.restored(t, restored(t, path))
}

// A restore may divide users anew. Whatever is for a user is in the user's shard then.
func TestARestoreDividesUsersAnew(t *testing.T) {
	t.Parallel()
	for from, to := range map[int]int{1: 4, 3: 1, 2: 3} {
		t.Run(fmt.Sprintf("%d to %d", from, to), func(t *testing.T) {
			t.Parallel()
			if to == 1 {
				need.Long(t, "the other two divide as well")
			}
			a := serveShards(t, from)
			c := newCrowd(t, a)
			path, _ := a.save(backup.SaveOptions{})
			a.stop()
			a.nc = nil
			data := filepath.Join(t.TempDir(), "new")
			check(t, restore(t, path, data, backup.RestoreOptions{Shards: map[string]int{auth.DefaultTenant: to}}))
			b := serve(t, data)
			if n := b.Keys().Shards(); n != to {
				t.Fatalf("restored with %d shards, want %d", n, to)
			}
			c.restored(t, b)
		})
	}
}
