//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyVerbose delivers the signal that turns debug on and off.
func notifyVerbose(to chan<- os.Signal) { signal.Notify(to, syscall.SIGUSR1) }
