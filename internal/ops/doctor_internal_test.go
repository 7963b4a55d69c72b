package ops

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A server that stands still is found, though NATS does not call it offline: its
// copies are a few messages behind, or none, and do not answer.
func TestACopyThatDoesNotAnswerIsFound(t *testing.T) {
	t.Parallel()
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"is offline", "messages behind", "has not answered its leader for"} {
		if !strings.Contains(string(runbook), words) {
			t.Errorf("the runbook does not have %q", words)
		}
	}
	for _, c := range []struct {
		copy Replica
		want string
	}{
		{Replica{Current: true, Heard: 300 * time.Millisecond}, ""},
		{Replica{Heard: 2 * time.Second, Lag: 5}, ""}, // catching up
		{Replica{Offline: true}, "offline"},
		{Replica{Heard: time.Second, Lag: lagWarn + 1}, "1001 messages behind"},
		{Replica{Heard: 25 * time.Second}, "has not answered its leader for 25s"},
		{Replica{Heard: 25 * time.Second, Lag: 2}, "has not answered its leader for 25s"},
	} {
		what, do := copyFinding(&c.copy)
		if c.want == "" && what != "" || !strings.Contains(what, c.want) || (what == "") != (do == "") {
			t.Errorf("%+v: %q, %q, want %q", c.copy, what, do, c.want)
		}
	}
}
