package backbone_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

func ensure(tb testing.TB, js jetstream.JetStream, plan backbone.Plan) {
	tb.Helper()
	if err := backbone.Ensure(tb.Context(), js, plan); err != nil {
		tb.Fatal(err)
	}
}

func info(tb testing.TB, js jetstream.JetStream, name string) *jetstream.StreamInfo {
	tb.Helper()
	stream, err := js.Stream(tb.Context(), name)
	return must(tb, stream, err).CachedInfo()
}

func TestEnsureCreates(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	ensure(t, js, backbone.Plan{})

	inbox := info(t, js, layout.StreamInbox).Config
	want := inbox // what the server fills in is its own affair
	want.Subjects = layout.AllInboxes()
	want.Retention = jetstream.LimitsPolicy
	want.Discard = jetstream.DiscardOld
	want.Storage = jetstream.FileStorage
	want.MaxMsgsPerSubject = 100_000
	want.MaxAge = 7 * 24 * time.Hour
	want.Duplicates = 2 * time.Minute
	want.MaxMsgs, want.MaxBytes = -1, -1
	want.AllowDirect, want.AllowAtomicPublish, want.AllowBatchPublish = true, true, true
	want.AllowRollup, want.AllowMsgTTL, want.AllowMsgSchedules, want.DenyPurge = false, false, false, false
	want.RePublish, want.Compression, want.PersistMode = nil, jetstream.NoCompression, jetstream.DefaultPersistMode
	want.Replicas = 1
	if !reflect.DeepEqual(inbox, want) {
		t.Errorf("inbox stream is\n%+v\nwant\n%+v", inbox, want)
	}

	cursor := info(t, js, layout.StreamCursor).Config
	if cursor.MaxMsgsPerSubject != 1 || cursor.MaxAge != 0 || !cursor.AllowDirect ||
		cursor.PersistMode != jetstream.DefaultPersistMode || cursor.Storage != jetstream.FileStorage {
		t.Errorf("cursor stream is %+v", cursor)
	}
	devices := info(t, js, "KV_"+layout.BucketDevices).Config
	if devices.MaxMsgsPerSubject != 1 || !devices.AllowDirect || devices.Storage != jetstream.FileStorage {
		t.Errorf("devices bucket is %+v", devices)
	}
}

// A server that lags may have an older configuration, and with it an older epoch.
// What a stream is changed into begins with what its leader has.
func TestEnsureBelievesTheLeaderOfAStream(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js := jetStream(t, env.Conn(t))
	ensure(t, js, backbone.Plan{})
	asked := env.Leaderless(layout.StreamInbox, 0, 3)
	ensure(t, js, backbone.Plan{})
	if n := asked.Load(); n <= 3 {
		t.Errorf("%d answers: that of a server that does not lead was believed", n)
	}
}

func TestEnsureAgainChangesNothing(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	plan := backbone.Plan{MaxAge: time.Hour, MaxPerLane: 10, Replicas: 1}
	ensure(t, js, plan)
	var out bytes.Buffer
	plan.Logger = slog.New(slog.NewTextHandler(&out, nil))
	ensure(t, js, plan)
	if out.Len() > 0 {
		t.Fatalf("the second run did something: %s", out.String())
	}
}

func TestEnsureUpgradesAndKeepsMessages(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	ctx := t.Context()
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:        layout.StreamInbox,
		Description: "the operator's own words",
		Subjects:    layout.AllInboxes()[:2],
		MaxAge:      time.Hour,
		AllowRollup: true,
		Discard:     jetstream.DiscardNew,
	})
	must(t, 0, err)
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: layout.StreamCursor, Subjects: []string{layout.AllCursors()}})
	must(t, 0, err)
	_, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: layout.BucketDevices, History: 5})
	must(t, 0, err)
	for i := range 10 {
		_, err := js.Publish(ctx, "rccs.inbox.alice.phone.low", fmt.Append(nil, i))
		must(t, 0, err)
		_, err = js.Publish(ctx, "rccs.cursor.alice.phone", fmt.Append(nil, i))
		must(t, 0, err)
	}

	var out bytes.Buffer
	ensure(t, js, backbone.Plan{Logger: slog.New(slog.NewTextHandler(&out, nil))})

	inbox := info(t, js, layout.StreamInbox)
	if c := inbox.Config; c.MaxAge != backbone.DefaultMaxAge || c.AllowRollup || !c.AllowDirect ||
		c.Discard != jetstream.DiscardOld || len(c.Subjects) != subjects.Lanes {
		t.Errorf("inbox stream was not upgraded: %+v", c)
	}
	if inbox.Config.Description != "the operator's own words" {
		t.Error("a setting that RCCS does not care for was changed")
	}
	if inbox.State.Msgs != 10 {
		t.Errorf("%d messages after the upgrade, want 10", inbox.State.Msgs)
	}
	cursor := info(t, js, layout.StreamCursor)
	if cursor.State.Msgs != 1 || cursor.State.LastSeq != 10 {
		t.Errorf("cursor stream holds %+v, want the last message", cursor.State)
	}
	if c := cursor.Config; c.PersistMode != jetstream.DefaultPersistMode || c.MaxMsgsPerSubject != 1 {
		t.Errorf("cursor stream was not upgraded as far as it can be: %+v", c)
	}
	if c := info(t, js, "KV_"+layout.BucketDevices).Config; c.MaxMsgsPerSubject != 1 {
		t.Errorf("devices bucket keeps %d revisions, want 1", c.MaxMsgsPerSubject)
	}
	if text := out.String(); !strings.Contains(text, "MaxAge from 1h0m0s to 168h0m0s") {
		t.Errorf("log %q does not say what changed", text)
	}
	ensure(t, js, backbone.Plan{}) // what cannot be reached is not tried for ever
}

func TestEnsureSaysWhatCannotBeChanged(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: layout.StreamInbox, Subjects: layout.AllInboxes(), Storage: jetstream.MemoryStorage,
	})
	must(t, 0, err)
	_, err = js.Publish(t.Context(), "rccs.inbox.alice.phone.low", nil)
	must(t, 0, err)
	err = backbone.Ensure(t.Context(), js, backbone.Plan{})
	if err == nil || !strings.Contains(err.Error(), "Storage from Memory to File") {
		t.Fatalf("error %v does not name the setting", err)
	}
	if n := info(t, js, layout.StreamInbox).State.Msgs; n != 1 {
		t.Fatalf("%d messages after the refusal, want 1", n)
	}
}

// One server cannot keep three copies.
func TestEnsureReplicasNeedServers(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	var refused *jetstream.APIError
	if err := backbone.Ensure(t.Context(), js, backbone.Plan{Replicas: 3}); !errors.As(err, &refused) {
		t.Errorf("create: %v", err)
	}
	ensure(t, js, backbone.Plan{})
	err := backbone.Ensure(t.Context(), js, backbone.Plan{Replicas: 3})
	if err == nil || !strings.Contains(err.Error(), "Replicas from 1 to 3") {
		t.Errorf("upgrade: %v", err)
	}
	for _, plan := range []backbone.Plan{{Replicas: -1}, {Replicas: 6}, {MaxAge: -1}, {MaxPerLane: -1}} {
		if err := backbone.Ensure(t.Context(), js, plan); err == nil {
			t.Errorf("plan %+v was accepted", plan)
		}
	}
}

func TestEnsureByManyAtOnce(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	var all sync.WaitGroup
	for range 8 {
		js := jetStream(t, env.Conn(t))
		all.Go(func() {
			if err := backbone.Ensure(t.Context(), js, backbone.Plan{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestOnlyTheFourLanesAreStored(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	ensure(t, js, backbone.Plan{})
	for _, lane := range []string{"low", "normal", "high", "critical"} {
		_, err := js.Publish(t.Context(), "rccs.inbox.alice.phone."+lane, nil)
		must(t, 0, err)
	}
	_, err := js.Publish(t.Context(), "rccs.inbox.alice.phone.urgent", nil, jetstream.WithRetryAttempts(0))
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Fatalf("fifth lane: %v, want no responders", err)
	}
}

// Compare says what Ensure would do, and does none of it.
func TestCompareFindsWhatEnsureWouldChange(t *testing.T) {
	t.Parallel()
	js := jetStream(t, natstest.Server(t).Conn(t))
	all, err := backbone.Compare(t.Context(), js, backbone.Plan{})
	if err != nil || len(all) < 12 || !all[0].Missing || !all[len(all)-1].Missing {
		t.Fatalf("with nothing there: %+v, %v", all, err)
	}
	if err := backbone.Ensure(t.Context(), js, backbone.Plan{}); err != nil {
		t.Fatal(err)
	}
	if all, err = backbone.Compare(t.Context(), js, backbone.Plan{}); err != nil || len(all) != 0 {
		t.Errorf("right after Ensure: %+v, %v", all, err)
	}
	for range 2 {
		all, err = backbone.Compare(t.Context(), js, backbone.Plan{MaxPerLane: 7})
		if err != nil || len(all) == 0 || all[0].Missing || len(all[0].Changes) != 1 || all[0].Changes[0] != "MaxMsgsPerSubject from 100000 to 7" {
			t.Errorf("with another plan: %+v, %v", all, err)
		}
	}
}
