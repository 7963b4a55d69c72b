package load_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// target is a server in this process, with accounts for a scenario.
func target(t *testing.T, scenario string, devices int) load.Target {
	t.Helper()
	n := nodetest.Start(t, node.Options{})
	to := load.Target{URL: fmt.Sprintf("ws://%s/v1/ws", n.Addr())}
	for i := range load.Needs(scenario, devices) {
		name := load.Name{User: fmt.Sprintf("user%d", i/2), Device: []string{"left", "right"}[i%2]}
		to.Accounts = append(to.Accounts, load.Account{Name: name, Token: nodetest.Token(t, n, name.User+"/"+name.Device)})
	}
	return to
}

// value is a metric of a result, above 0.
func value(t *testing.T, r *load.Result, name string) float64 {
	t.Helper()
	for _, m := range r.Metrics {
		if m.Name == name {
			if m.Value <= 0 {
				t.Errorf("%s is %s", name, m)
			}
			return m.Value
		}
	}
	t.Errorf("no %q in %v", name, r.Metrics)
	return 0
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario string
		run      func(context.Context, load.Options) (*load.Result, error)
		opts     load.Options
		least    uint64 // messages
		metrics  []string
	}{
		{
			"latency", load.Latency,
			load.Options{Devices: 10, Rate: 200, Duration: time.Second, Warmup: 100 * time.Millisecond},
			220,
			[]string{"latency p50", "latency p99.9", "latency max"},
		},
		{
			"throughput", load.Throughput,
			load.Options{Devices: 8, Window: 4, Duration: 500 * time.Millisecond, Warmup: 50 * time.Millisecond},
			1, // as many as the machine can
			[]string{"messages", "latency p99"},
		},
		{
			"fanout", load.Fanout,
			load.Options{Devices: 20, Window: 3, Duration: 500 * time.Millisecond, Warmup: 50 * time.Millisecond},
			20,
			[]string{"deliveries", "published", "latency p99"},
		},
		{
			"storm", load.Storm,
			load.Options{Devices: 30, Missed: 100}, // long enough for the probe to be heard
			3000,
			[]string{"last message", "devices", "device p99", "probe p50", "quiet probe p99"},
		},
		{
			"idle", load.Idle,
			load.Options{Devices: 20, Duration: 200 * time.Millisecond},
			10,
			[]string{"connecting", "memory a connection", "memory with", "latency after p50"},
		},
		{
			"slow", load.Slow,
			load.Options{Devices: 12, Rate: 600, Duration: time.Second, Warmup: 100 * time.Millisecond, Stopped: 2, Bytes: 20_000},
			1200,
			[]string{"all read p99", "some stopped p99", "catching up"},
		},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			c.opts.Target, c.opts.Patience = target(t, c.scenario, c.opts.Devices), testkit.Patience
			c.opts.Target.Forget = c.scenario != "latency"
			held := int64(1 << 20)
			c.opts.Target.Memory = func(context.Context) (int64, error) { held *= 2; return held, nil }
			var told atomic.Int64
			c.opts.Progress = func(p load.Progress) {
				if p.Phase == "" || p.All > 0 && p.Done > p.All {
					t.Errorf("progress %+v", p)
				}
				told.Add(1)
			}
			r, err := c.run(t.Context(), c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if r.Scenario != c.scenario || r.Sent != r.Arrived || r.Sent < c.least || r.Failed != "" || r.Histogram == "" || r.Leftover != 0 {
				t.Errorf("result %+v", r)
			}
			for _, name := range c.metrics {
				value(t, r, name)
			}
			if told.Load() == 0 {
				t.Error("no progress was told")
			}
			t.Log(r.Sent, "messages", r.Metrics)
		})
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	accounts := make([]load.Account, 100_000)
	for want, opts := range map[string]load.Options{
		"URL is needed":         {},
		"want 2 or more":        {Devices: 1, Target: load.Target{URL: "ws://x"}},
		"tokens are there":      {Devices: 10, Target: load.Target{URL: "ws://x", Accounts: accounts[:5]}},
		"want 128 to":           {Bytes: 1, Target: load.Target{URL: "ws://x", Accounts: accounts}},
		"messages a second":     {Rate: -1, Target: load.Target{URL: "ws://x", Accounts: accounts}},
		"messages under way":    {Window: 1e6, Target: load.Target{URL: "ws://x", Accounts: accounts}},
		"missed messages":       {Missed: 1e6, Target: load.Target{URL: "ws://x", Accounts: accounts}},
		"raise the limit":       {Devices: len(accounts), Target: load.Target{URL: "ws://x", Accounts: accounts}},
		"want a duration above": {Duration: -1, Target: load.Target{URL: "ws://x", Accounts: accounts}},
	} {
		if r, err := load.Latency(t.Context(), opts); err == nil || !strings.Contains(err.Error(), want) || r != nil {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// A token of another installation, or a server that goes, is an error and no
// hang.
func TestFailures(t *testing.T) {
	t.Parallel()
	opts := load.Options{Devices: 4, Duration: time.Minute, Target: target(t, "latency", 4)}
	bad := opts
	bad.Target.Accounts = append([]load.Account(nil), opts.Target.Accounts...)
	bad.Target.Accounts[2].Token = "x"
	if _, err := load.Latency(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "register user1/left: refused: AUTH") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(p load.Progress) {
		if p.Phase == "sending" {
			cancel()
		}
	}
	if r, err := load.Latency(ctx, opts); !errors.Is(err, context.Canceled) || r != nil {
		t.Errorf("interrupted: %v, %v", r, err)
	}
}

// What waits for a device and is not of the run is not acknowledged.
func TestWhatWaitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	opts := load.Options{
		Devices: 2, Rate: 100, Duration: 200 * time.Millisecond, Warmup: time.Millisecond, Missed: 3, Target: target(t, "storm", 2),
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(p load.Progress) { // messages wait now, and the run is given up
		if strings.HasPrefix(p.Phase, "quiet") {
			cancel()
		}
	}
	if _, err := load.Storm(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	opts.Target.Accounts, opts.Progress = opts.Target.Accounts[2:], nil
	if _, err := load.Latency(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "3 messages wait for it") {
		t.Errorf("error %v", err)
	}
}

// A run that is given up leaves nothing behind, not even for devices that are
// away.
func TestInterruptedRunsForgetTheirDevices(t *testing.T) {
	t.Parallel()
	opts := load.Options{Devices: 3, Missed: 2, Target: target(t, "storm", 3)}
	opts.Target.Forget = true
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(p load.Progress) {
		if strings.HasPrefix(p.Phase, "quiet") {
			cancel()
		}
	}
	if _, err := load.Storm(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// Without Forget it would say that messages wait.
	opts = load.Options{Devices: 8, Rate: 100, Duration: 100 * time.Millisecond, Warmup: time.Millisecond, Target: opts.Target}
	opts.Target.Forget = false
	if _, err := load.Latency(t.Context(), opts); err != nil {
		t.Error(err)
	}
}

// An edge that turns devices away for a while is waited for; one that goes on
// is an error that says what to do.
func TestDevicesThatAreTurnedAwayComeBack(t *testing.T) {
	t.Parallel()
	to := target(t, "latency", 4)
	var attempts atomic.Int64
	var always atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := attempts.Add(1); n <= 3 || always.Load() {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		proxy(t, w, r, to.URL, untouched)
	}))
	t.Cleanup(s.Close)
	opts := load.Options{Devices: 4, Rate: 100, Duration: 100 * time.Millisecond, Warmup: time.Millisecond, Target: to, Patience: testkit.Patience}
	opts.Target.URL = "ws" + strings.TrimPrefix(s.URL, "http")
	r, err := load.Latency(t.Context(), opts)
	if err != nil || r.Refused != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	always.Store(true)
	opts.Patience = 300 * time.Millisecond
	if _, err := load.Latency(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "429 Too Many Requests: an edge bounds") {
		t.Errorf("error %v", err)
	}
}
