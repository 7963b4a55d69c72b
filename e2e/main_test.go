package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// program is the built rccs. It is set before the first test and constant
// then.
var program string

// shared is the server that tests use that do not harm it.
var shared = new(sharedServer)

// suite builds the program before the tests and ends the shared server after
// them.
type suite struct{ m *testing.M }

func TestMain(m *testing.M) {
	testkit.AtOnce(4)
	testkit.VerifyTestMain(suite{m})
}

// Run implements goleak.TestingM.
func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "rccs-e2e-")
	if err != nil {
		return s.fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if program, err = testkit.Build(dir, "-race"); err != nil {
		return s.fail(err)
	}
	code := s.m.Run()
	if err := shared.stop(); err != nil {
		return s.fail(fmt.Errorf("the shared server: %w", err))
	}
	return code
}

func (suite) fail(err error) int {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	return 1
}
