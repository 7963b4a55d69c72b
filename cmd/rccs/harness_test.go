package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// patient is how long a command may wait for what comes far sooner.
var patient = testkit.Patience.String()

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" { // one that a test has started
		main()
		return
	}
	servedTimeout = testkit.Patience
	natstest.VerifyTestMain(m)
}

// console runs the program in this process, without anything of the real
// environment.
type console struct {
	in     string
	vars   map[string]string
	hangup func(chan<- os.Signal)
	// columns is the width of the terminal; 0: there is none.
	columns int
}

// result is what a run of the program left behind.
type result struct {
	status   int
	out, err string
}

func (c console) environment(in io.Reader, out, err io.Writer) *environment {
	return &environment{in: in, out: out, err: err, lookup: func(name string) (string, bool) {
		value, ok := c.vars[name]
		if !ok && name == "RCCS_STOP_WITHIN" {
			return "1m", true // machines under test are busy
		}
		return value, ok
	}, hangup: c.hangup, columns: c.columns}
}

// run runs the program. A command that a starved server did not let in has done
// nothing, and is run again.
func (c console) run(tb testing.TB, args ...string) result {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), testkit.Patience)
	defer cancel()
	for {
		var out, errs bytes.Buffer
		status := c.environment(strings.NewReader(c.in), &out, &errs).run(ctx, args)
		got := result{status: status, out: out.String(), err: errs.String()}
		if !strings.HasPrefix(got.err, "rccs: connect to ") || !strings.Contains(got.err, "i/o timeout") || ctx.Err() != nil {
			return got
		}
	}
}

// succeed runs the program, and fails the test unless it succeeds.
func (c console) succeed(tb testing.TB, args ...string) result {
	tb.Helper()
	got := c.run(tb, args...)
	if got.status != exitOK {
		tb.Fatalf("rccs %q: status %d: %s", args, got.status, got.err)
	}
	return got
}

// idles runs a command for a while that ends it, as with "connect --timeout", and
// again for longer until it has said that it began: a busy machine takes a while.
func (c console) idles(tb testing.TB, began string, args ...string) (got result, within time.Duration) {
	tb.Helper()
	for within = time.Second; within < testkit.Patience; within *= 2 {
		if got = c.run(tb, append(args, "--timeout", within.String())...); strings.Contains(got.err, began) {
			return got, within
		}
	}
	tb.Fatalf("rccs %q does not say %q within %s: %s", args, began, within/2, got.err)
	return got, 0
}

// offers waits until a completion offers lines, one after the other. One that asks a
// server gives up soon, since a shell waits for it.
func (c console) offers(tb testing.TB, lines string, args ...string) {
	tb.Helper()
	testkit.Eventually(tb, fmt.Sprintf("%q to be offered after %q", lines, args), func() bool {
		out := c.succeed(tb, append([]string{"__completeNoDesc"}, args...)...).out
		return strings.Contains("\n"+out, "\n"+lines+"\n")
	})
}

// packageName is the prefix that a package gives to its errors, at the beginning
// or in the middle.
var packageName = regexp.MustCompile(`: (api|auth|backbone|backup|client|coordinator|edge|enroll|inbox|load|localcluster|node|ops|revoke|snapshot|subjects|topic|tracing|wire): `)

// refused checks how a run that failed told so: nothing on standard output,
// and on standard error one message, that names what is wrong.
func (o result) refused(tb testing.TB, status int, want ...string) {
	tb.Helper()
	if o.status != status || o.out != "" {
		tb.Errorf("status %d, want %d; printed %q and %q", o.status, status, o.out, o.err)
	}
	for _, text := range want {
		if !strings.Contains(o.err, text) {
			tb.Errorf("%q is not told: %q", text, o.err)
		}
	}
	if !strings.HasPrefix(o.err, "rccs: ") || !strings.HasSuffix(o.err, "\n") || strings.Count(o.err, "rccs: ") != 1 {
		tb.Errorf("not one error that begins with %q: %q", "rccs: ", o.err)
	}
	if name := packageName.FindString(o.err); name != "" {
		tb.Errorf("the error names the package %q, which tells people nothing: %q", name, o.err)
	}
	if hint := strings.Contains(o.err, "--help'"); hint != (status == exitUsage) {
		tb.Errorf("status %d, hint at --help %t: %q", status, hint, o.err)
	}
}

// tree is every command, cobra's own included.
func tree() []*cobra.Command {
	var all []*cobra.Command
	each(newRootCommand(console{}.environment(strings.NewReader(""), io.Discard, io.Discard)), func(cmd *cobra.Command) {
		all = append(all, cmd)
	})
	return all
}

// running is the program in the background.
type running struct {
	tb     testing.TB
	lines  chan string // of standard output; closed at its end
	in     *io.PipeWriter
	cancel context.CancelFunc
	status chan int
	errs   testkit.Log
}

func (r *running) stderr() string { return r.errs.String() }

// start runs the program until the test ends, or [running.stop].
func (c console) start(tb testing.TB, args ...string) *running {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	in, typed := io.Pipe()
	printed, out := io.Pipe()
	r := &running{tb: tb, lines: make(chan string, 1024), in: typed, cancel: cancel, status: make(chan int, 1)}
	var readers sync.WaitGroup
	readers.Go(func() {
		defer close(r.lines)
		for s := bufio.NewScanner(printed); s.Scan(); {
			r.lines <- s.Text()
		}
	})
	readers.Go(func() {
		r.status <- c.environment(in, out, &r.errs).run(ctx, args)
		_ = out.Close()
	})
	tb.Cleanup(func() {
		cancel()
		_ = typed.Close()
		readers.Wait()
	})
	return r
}

// await returns the groups of the first line that matches.
func (r *running) await(pattern string) []string {
	r.tb.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(testkit.Patience)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.tb.Fatalf("ended without a line like %q: %s", pattern, r.stderr())
			}
			if groups := re.FindStringSubmatch(line); groups != nil {
				return groups
			}
		case <-timeout:
			r.tb.Fatalf("no line like %q within %s: %s", pattern, testkit.Patience, r.stderr())
		}
	}
}

// noted polls until standard error has the text.
func (r *running) noted(text string) {
	r.tb.Helper()
	for deadline := time.Now().Add(testkit.Patience); !strings.Contains(r.stderr(), text); {
		if time.Now().After(deadline) {
			r.tb.Fatalf("%q was not noted in time: %s", text, r.stderr())
		}
		<-time.After(time.Millisecond)
	}
}

// exit waits until the program ends by itself.
func (r *running) exit() int {
	r.tb.Helper()
	select {
	case status := <-r.status:
		return status
	case <-time.After(testkit.Patience):
		r.tb.Fatalf("still running: %s", r.stderr())
		return -1
	}
}

// stop ends the program as Ctrl-C does.
func (r *running) stop() int {
	r.tb.Helper()
	r.cancel()
	return r.exit()
}
