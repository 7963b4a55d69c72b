// Package sdktest holds tests of package client against all of RCCS, in one
// process. They are not in client itself: go mod tidy of a program that uses
// the SDK would then need the modules of the server, which the tests import.
package sdktest
