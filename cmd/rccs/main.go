// Command rccs runs RCCS and talks to it. `rccs help` lists what it can do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set when building.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := &environment{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv,
		hangup:  func(to chan<- os.Signal) { signal.Notify(to, syscall.SIGHUP) },
		verbose: notifyVerbose,
	}
	os.Exit(env.run(ctx, os.Args[1:]))
}
