//go:build !unix

package main

import "os"

// notifyVerbose has no signal to deliver here.
func notifyVerbose(chan<- os.Signal) {}
