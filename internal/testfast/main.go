//go:build unix

// Command testfast runs the tests of packages for `make test-fast`, in the order
// in which they are given, for as long as it has time. Packages that it did not
// get to, or stopped in the middle, it names: it never passes for more than it
// did. It tests one change of one person and is not built into anything.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	within := flag.Duration("within", 40*time.Second, "how long tests may take, compiling included")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout, *within, flag.Args())) //nolint:forbidigo // this is main
}

// run returns the exit status: 1 when a test failed, and not because time was up.
func run(ctx context.Context, out io.Writer, within time.Duration, packages []string) int {
	begin := time.Now()
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r := report{out: out, said: map[string]*bytes.Buffer{}, ended: map[string]bool{}}
	err := r.read(bounded, append([]string{"test", "-short", "-json"}, packages...))
	left := slices.DeleteFunc(slices.Clone(packages), func(p string) bool { return r.ended[p] })
	switch {
	case r.failed, ctx.Err() != nil:
		return 1
	case bounded.Err() != nil && len(left) > 0:
		fmt.Fprintf(out, "\nTime was up after %s. These packages were not tested to the end:\n  %s\n"+
			"`make test` tests them, and `make test-fast` goes on with them when it is run again:\n"+
			"it does not repeat what has passed.\n", within, strings.Join(left, "\n  "))
	case err != nil:
		fmt.Fprintf(out, "go test: %v\n", err)
		return 1
	}
	fmt.Fprintf(out, "%d of %d packages passed in %.0f s\n", len(packages)-len(left), len(packages), time.Since(begin).Seconds())
	return 0
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// report shows what the tests that failed have said, and a line of each package.
type report struct {
	out    io.Writer
	said   map[string]*bytes.Buffer // by package and test, of those that run
	ended  map[string]bool          // packages
	failed bool
}

// grace is how long what was interrupted may take to end.
const grace = 5 * time.Second

// read runs go with what it starts in a process group, which ends with ctx.
func (r *report) read(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // packages that the Makefile names
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { // go removes its temporary files when it is interrupted
		time.AfterFunc(grace, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	}
	cmd.Stderr = r.out
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for s := bufio.NewReader(lines); ; {
		line, err := s.ReadBytes('\n')
		if len(line) > 0 && ctx.Err() == nil { // what is interrupted has not failed
			r.line(line)
		}
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			return cmd.Wait()
		}
		if err != nil {
			return errors.Join(err, cmd.Wait())
		}
	}
}

func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		_, _ = r.out.Write(line) // go itself, beside the events
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if r.said[key] == nil {
			r.said[key] = &bytes.Buffer{}
		}
		_, _ = r.said[key].WriteString(e.Output)
	case "fail":
		r.failed = true
		r.show(key)
	case "pass", "skip":
		if e.Test == "" {
			r.showVerdict(key)
		}
		delete(r.said, key)
	}
	if e.Test == "" && slices.Contains([]string{"pass", "skip", "fail"}, e.Action) {
		r.ended[e.Package] = true
	}
}

// show prints what was said, of a package with the tests that it took with it.
func (r *report) show(key string) {
	for k, said := range r.said {
		if k == key || strings.HasSuffix(key, " ") && strings.HasPrefix(k, key) {
			fmt.Fprint(r.out, said)
			delete(r.said, k)
		}
	}
}

// showVerdict prints the line with which `go test` ends a package that passed.
func (r *report) showVerdict(key string) {
	said := r.said[key]
	if said == nil {
		return
	}
	for line := range strings.Lines(said.String()) {
		if strings.HasPrefix(line, "ok ") {
			fmt.Fprint(r.out, line)
		}
	}
}
