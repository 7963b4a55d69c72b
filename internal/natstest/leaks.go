package natstest

import (
	"go.uber.org/goleak"

	"github.com/rccs-io/rccs/internal/testkit"
)

// VerifyTestMain runs the tests and fails when goroutines are left. One of
// nats-server's is let be: it waits up to half a minute for the answer of a
// stream that is sourced, and is not told that the server has stopped.
func VerifyTestMain(m goleak.TestingM) {
	testkit.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}
