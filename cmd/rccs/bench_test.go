package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
)

// A run on an installation makes devices, and leaves none behind.
func TestBenchOfAnInstallation(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	saved := filepath.Join(t.TempDir(), "result.json")
	got := c.succeed(t, "bench", "latency", "--data", i.data, "--devices", "6", "--rate", "200",
		"--duration", "300ms", "--warmup", "10ms", "--save", saved)
	for _, want := range []string{
		"latency of ws://", "\ndevices 6, bytes 256, rate 200, duration 300ms\n", "\nMETRIC ", "\nlatency p99.9 ", "\n62 messages, each arrived once and in order\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not printed: %s", want, got.out)
		}
	}
	r, err := readResult(saved)
	if err != nil {
		t.Fatal(err)
	}
	if r.Scenario != "latency" || r.Sent != 62 || r.Arrived != 62 || r.Program != "rccs "+version || len(r.Metrics) != 6 {
		t.Errorf("saved %+v", r)
	}
	if got := c.succeed(t, "devices", "ls", "--json"); strings.TrimSpace(got.out) != "[]" {
		t.Errorf("devices are left: %s", got.out)
	}
	if got := c.succeed(t, "bench", "compare", saved, saved, "--strict"); !strings.Contains(got.out, " 1.00  same\n") || got.err != "" {
		t.Errorf("compared with itself: %q and %q", got.out, got.err)
	}
}

// Where the keys are not, tokens are enough; what waits for a device that is
// not the run's own stays there.
func TestBenchWithTokens(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.in = "a/left\nlonely/left\na/right\nb/left\nb/right\n"
	tokens := filepath.Join(t.TempDir(), "bench.tokens")
	if err := os.WriteFile(tokens, []byte(c.succeed(t, "creds", "device", "--bearer", "--expires", "1h", "-").out), 0o600); err != nil {
		t.Fatal(err)
	}
	remote := console{vars: map[string]string{"RCCS_URL": i.edge, "RCCS_TOKENS": tokens}}
	got := remote.succeed(t, "bench", "throughput", "--devices", "4", "--window", "2", "--duration", "200ms", "--warmup", "10ms", "--json")
	var r load.Result
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || r.Sent == 0 || r.Sent != r.Arrived || got.err != "" {
		t.Errorf("%v: printed %q and %q", err, got.out, got.err)
	}
	remote.run(t, "bench", "latency", "--devices", "6").refused(t, exitFailed, "4 tokens are there, latency with 6 devices needs 6")
	c.succeed(t, "send", "b/right", `{"precious":true}`)
	remote.run(t, "bench", "latency", "--devices", "4").refused(t, exitFailed, "b/right", "messages wait for it", "rccs inbox purge b/right")
	if got := c.succeed(t, "missed", "b/right", "--json"); !strings.Contains(got.out, `"seq"`) {
		t.Errorf("what waited is gone: %s", got.out)
	}
}

// programEnv has this test's binary be the program.
const programEnv = "RCCS_TEST_PROGRAM"

func TestBenchOfItsOwnServer(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "rccs")
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %q \"$@\"\n", programEnv, self)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	got := console{}.succeed(t, "bench", "idle", "--self", "--program", program, "--devices", "20", "--duration", "100ms", "--json")
	var r load.Result
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || r.Server != program || r.Sent != 10 || r.Arrived != 10 {
		t.Errorf("%v: printed %q and %q", err, got.out, got.err)
	}
	if !strings.Contains(got.out, `"memory a connection"`) {
		t.Errorf("no memory: %s", got.out)
	}
}

func TestBenchRefusals(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	for line, want := range map[string]string{
		"bench nosuch":                          "unknown subcommand",
		"bench latency --rate 2000000":          "want a number from 1 to 1000000",
		"bench latency --devices 1":             "want a number from 2 to",
		"bench fanout --window 0":               "--window",
		"bench latency --patience -1s":          "--patience",
		"bench idle --devices 1000000":          "raise the limit (ulimit -n)",
		"bench slow --devices 10 --stopped 5":   "at least one that reads",
		"bench compare one.json":                "want the files A.json and B.json",
		"bench storm --missed 100000":           "want a number from 1 to 10000",
		"bench throughput --bytes 1 --window 1": "want a number from 128 to",
	} {
		console{}.run(t, strings.Split(line, " ")...).refused(t, exitUsage, want)
	}
	for line, want := range map[string]string{
		"bench latency --data " + none:                                                                      "does not exist",
		"bench latency --tokens " + none:                                                                    "--tokens",
		"bench compare " + none + " " + none:                                                                none,
		"bench latency --self --program " + none:                                                            none,
		"bench latency --self --ca " + none:                                                                 "--ca: open " + none,
		"bench latency --url ws://127.0.0.1:1/v1/ws --data " + t.TempDir():                                  "does not exist",
		"bench latency --tokens " + file(t, "not a token\n"):                                                "line 1: want USER/DEVICE",
		"bench latency --tokens " + file(t, "a/b T\nc/d T\n"):                                               "no user has two devices",
		"bench compare " + file(t, "{}") + " " + file(t, "{}"):                                              "not results of a bench",
		"bench compare " + file(t, "x") + " " + file(t, "x"):                                                "not a result of 'rccs bench'",
		"bench latency --devices 2 --tokens " + file(t, "a/b T\na/c T\n") + " --url ws://127.0.0.1:1/v1/ws": "connection refused",
	} {
		got := console{}.run(t, strings.Split(line, " ")...)
		if got.status != exitFailed || !strings.Contains(got.err, want) {
			t.Errorf("%s: status %d, %s; want %q", line, got.status, got.err, want)
		}
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBenchCompare(t *testing.T) {
	t.Parallel()
	result := func(p99, rate float64, devices string) string {
		data, err := json.Marshal(load.Result{
			Scenario: "throughput", Settings: []load.Setting{{Name: "devices", Value: devices}},
			Metrics: []load.Metric{{Name: "messages", Value: rate, Unit: "/s", Better: load.More}, {Name: "latency p99", Value: p99, Unit: "ms", Better: load.Less}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return file(t, string(data))
	}
	a, b := result(10, 20000, "100"), result(25, 30000, "200")
	got := console{}.succeed(t, "bench", "compare", a, b)
	want := "METRIC              A         B   B/A  B IS\n" +
		"messages     20000 /s  30000 /s  1.50  better\n" +
		"latency p99   10.0 ms   25.0 ms  2.50  worse\n"
	if got.out != want || got.err != "rccs: not the same load: devices is 100 and 200\n" {
		t.Errorf("printed %q and %q, want %q", got.out, got.err, want)
	}
	if got := (console{}).run(t, "bench", "compare", a, b, "--strict", "--json"); got.status != exitFailed || !strings.Contains(got.err, "worse by more than 10 %: latency p99") ||
		!strings.Contains(got.out, `"verdict": "worse"`) {
		t.Errorf("status %d, printed %q and %q", got.status, got.out, got.err)
	}
	console{}.succeed(t, "bench", "compare", a, b, "--strict", "--tolerance", "200")
}

func TestBenchLiveLine(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]load.Progress{
		"storm: connecting": {Phase: "connecting"},
		"storm: sending [==========          ] 23,456/s p99 1.5 ms": {Phase: "sending", Done: 5, All: 10, Rate: 23456.7, P99: 1500 * time.Microsecond},
		"storm: sending [====================]":                     {Phase: "sending", Done: 11, All: 10},
	} {
		if got := liveLine("storm", p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
