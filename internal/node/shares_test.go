package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/revoke"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

const (
	mib       = 1 << 20
	storeSize = 64 * mib
)

// sharing is a node with little room.
func sharing(t *testing.T, dir string) *node.Node {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "nats.conf")
	testkit.Check(t, os.WriteFile(conf, fmt.Appendf(nil, "max_payload: 2MB\njetstream { max_file_store: %d }\n", storeSize), 0o600))
	return nodetest.Start(t, node.Options{Data: dir, NATSListen: nodetest.AnyPort, ConfigPath: conf})
}

// store is what a tenant's streams may hold.
type store struct {
	t    *testing.T
	n    *node.Node
	name string
	js   jetstream.JetStream
}

func storeOf(t *testing.T, n *node.Node, tenant string) *store {
	t.Helper()
	keys, err := n.Keys().Tenant(tenant)
	testkit.Check(t, err)
	part, err := keys.IssuePart("test")
	testkit.Check(t, err)
	var nc *nats.Conn
	testkit.Eventually(t, "the server to know the tenant "+tenant, func() bool {
		nc, err = node.Connect(n.NATSURL(), part.Option(), nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(testkit.Patience))
		return err == nil
	})
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	return &store{t, n, tenant, js}
}

// limit changes the tenant's, as 'rccs tenants set' does; 0: none.
func (s *store) limit(bytes int64) {
	s.t.Helper()
	keys, err := s.n.Keys().Tenant(s.name)
	testkit.Check(s.t, err)
	i := revoke.Installation{Keys: keys, Dial: func(cred auth.Credential) (*nats.Conn, error) {
		return node.Connect(s.n.NATSURL(), cred.Option(), nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(testkit.Patience))
	}}
	by := audit.Record{Action: audit.ActionTenant, Target: s.name}
	testkit.Check(s.t, i.Change(s.t.Context(), by, func() (auth.Account, error) { return keys.SetLimits(auth.Limits{StorageBytes: bytes}) }))
}

// bound is that of a stream; 0: there is none yet.
func (s *store) bound(stream string) int64 {
	s.t.Helper()
	info, err := s.js.Stream(s.t.Context(), stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	testkit.Check(s.t, err)
	return info.CachedInfo().Config.MaxBytes
}

// has waits until the streams have the bounds of a share, and the account its
// limit.
func (s *store) has(share, limit int64) {
	s.t.Helper()
	percent := share / 100
	small := min(256<<10, 2*percent)
	want := map[string]int64{
		layout.StreamInbox: 60 * percent, subjects.StreamTopic: 15 * percent, subjects.StreamUp: max(5*percent, small),
		subjects.StreamEvent: max(2*percent, small), layout.StreamRoute: max(percent, small),
		"KV_" + layout.BucketTasks: max(percent, small),
	}
	for stream, bytes := range want {
		testkit.Eventually(s.t, fmt.Sprintf("%s of %s to be bounded by %d", stream, s.name, bytes), func() bool { return s.bound(stream) == bytes })
	}
	testkit.Eventually(s.t, fmt.Sprintf("%s to be limited to %d", s.name, limit), func() bool {
		info, err := s.js.AccountInfo(s.t.Context())
		testkit.Check(s.t, err)
		return info.Limits.MaxStore == limit
	})
	sum := int64(0)
	for stream := range want {
		sum += s.bound(stream)
	}
	if sum > share/100*90 {
		s.t.Errorf("messages may take %d of %d bytes, which leaves no reserve", sum, share)
	}
}

func TestStreamsFollowATenantsLimitDownAndUp(t *testing.T) {
	t.Parallel()
	s := storeOf(t, sharing(t, t.TempDir()), auth.DefaultTenant)
	const none = -1
	s.has(storeSize, none)
	s.limit(4 * mib)
	s.has(4*mib, 4*mib)
	s.limit(32 * mib)
	s.has(32*mib, 32*mib)
	s.limit(0)
	s.has(storeSize, none)
	s.limit(50 * mib) // beside what the streams have reserved there is no room for it
	s.has(50*mib, 50*mib)
	s.limit(mib)
	s.has(mib, mib)
}

func TestATenantsLimitChangesTheSharesOfOthers(t *testing.T) {
	t.Parallel()
	n := sharing(t, t.TempDir())
	_, err := n.Keys().AddTenant("acme", auth.Limits{StorageBytes: 4 * mib})
	testkit.Check(t, err)
	first := storeOf(t, n, auth.DefaultTenant)
	first.has(60*mib, -1)
	acme := storeOf(t, n, "acme")
	acme.has(4*mib, 4*mib)
	acme.limit(40 * mib) // which the other has reserved
	first.has(24*mib, -1)
	acme.has(40*mib, 40*mib)
	acme.limit(8 * mib)
	first.has(56*mib, -1)
	acme.has(8*mib, 8*mib)
}

func TestASmallerShareKeepsWhatIsStored(t *testing.T) {
	t.Parallel()
	s := storeOf(t, sharing(t, t.TempDir()), auth.DefaultTenant)
	s.has(storeSize, -1)
	const many, size = 10, 200_000
	put := func() error {
		_, err := s.js.Publish(t.Context(), "rccs.inbox.alice.phone.normal", make([]byte, size))
		return err
	}
	for range many {
		testkit.Check(t, put())
	}
	s.limit(3 * mib) // of which inboxes may take 1.8
	testkit.Eventually(t, "the inboxes to be full", func() bool { return s.bound(layout.StreamInbox) < 4*mib })
	if err := put(); err == nil {
		t.Error("one more was stored")
	}
	stream, err := s.js.Stream(t.Context(), layout.StreamInbox)
	testkit.Check(t, err)
	if got := stream.CachedInfo().State.Msgs; got != many {
		t.Errorf("%d of %d messages are left", got, many)
	}
	testkit.Check(t, stream.Purge(t.Context(), jetstream.WithPurgeKeep(1)))
	s.has(3*mib, 3*mib) // once there is room
	s.limit(6 * mib)
	s.has(6*mib, 6*mib)
	testkit.Check(t, put())
}

func TestALimitThatWasLoweredWhileTheServerWasDownHoldsAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := sharing(t, dir)
	storeOf(t, n, auth.DefaultTenant).has(storeSize, -1)
	testkit.Check(t, n.Stop(t.Context()))
	_, err := n.Keys().SetLimits(auth.Limits{StorageBytes: 4 * mib})
	testkit.Check(t, err)
	storeOf(t, sharing(t, dir), auth.DefaultTenant).has(4*mib, 4*mib)
}

func TestDoctorTellsOfBoundsThatDoNotFollowTheLimit(t *testing.T) {
	t.Parallel()
	n := sharing(t, t.TempDir())
	s := storeOf(t, n, auth.DefaultTenant)
	s.limit(8 * mib)
	s.has(8*mib, 8*mib)
	tenant, err := ops.Open(ops.Options{Dial: func(opts ...nats.Option) (*nats.Conn, error) {
		part, err := n.Keys().IssuePart("doctor")
		testkit.Check(t, err)
		return node.Connect(n.NATSURL(), append(opts, part.Option(), nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(testkit.Patience))...)
	}})
	testkit.Check(t, err)
	t.Cleanup(tenant.Close)
	told := func() bool {
		findings, err := tenant.Doctor(t.Context(), ops.DoctorOptions{})
		testkit.Check(t, err)
		return slices.ContainsFunc(findings, func(f ops.Finding) bool {
			return f.Check == "shares" && f.Level == ops.LevelWarn && strings.Contains(f.What, "not their part of the tenant's limit of 8388608")
		})
	}
	if told() {
		t.Error("it tells of bounds that are right")
	}
	stream, err := s.js.Stream(t.Context(), layout.StreamInbox)
	testkit.Check(t, err)
	config := stream.CachedInfo().Config
	config.MaxBytes = mib
	_, err = s.js.UpdateStream(t.Context(), config)
	testkit.Check(t, err)
	if !told() {
		t.Error("it does not tell of inboxes that are bounded by the wrong share")
	}
}
