package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// From one device to another that asks, over real connections.
func TestTraceOfAMessageBetweenDevices(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.visit(t, "alice/desktop")
	phone := c.start(t, "connect", "alice/phone", "--type", "note")
	phone.noted("connected as alice/phone")
	if _, err := fmt.Fprintln(phone.in, `desktop {"n":1}`); err != nil {
		t.Fatal(err)
	}
	phone.noted("stored for desktop")
	var missed []struct{ ID string }
	if err := json.Unmarshal([]byte(c.succeed(t, "missed", "alice/desktop", "--json").out), &missed); err != nil || len(missed) != 1 {
		t.Fatalf("missed %+v, %v", missed, err)
	}
	id := missed[0].ID
	type trace struct {
		ID     string
		Copies []struct{ User, Device, Lane, Type, From, State, Outcome, Edge string }
		Steps  []struct{ Step, Device, Stream, Detail string }
	}
	look := func() (got trace) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.succeed(t, "trace", id, "--json").out), &got); err != nil || len(got.Copies) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		return got
	}
	if got := look(); got.ID != id || got.Copies[0].State != "waiting" || got.Copies[0].From != "phone" || got.Copies[0].Device != "desktop" {
		t.Errorf("before: %+v", got)
	}
	c.succeed(t, "connect", "alice/desktop", "--timeout", patient, "--count", "1")
	testkit.Eventually(t, "it is acknowledged and its sender told", func() bool {
		got := look()
		return got.Copies[0].State == "acknowledged" && got.Copies[0].Outcome == "delivered"
	})
	desktop := c.start(t, "connect", "alice/desktop")
	desktop.noted("connected as alice/desktop")
	got := look()
	if got.Copies[0].Edge == "" {
		t.Errorf("no edge holds the desktop: %+v", got.Copies)
	}
	if first, last := got.Steps[0], got.Steps[len(got.Steps)-1]; first.Step != "stored" || first.Stream != "RCCS_INBOX" || last.Step != "outcome" || last.Device != "phone" {
		t.Errorf("steps %+v", got.Steps)
	}
	text := c.succeed(t, "trace", id, "alice/desktop").out
	for _, want := range []string{"alice/desktop  normal", "acknowledged  delivered", "delivered by desktop, told the sender", "came online"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not shown: %s", want, text)
		}
	}
	c.run(t, "trace", "no-such-id").refused(t, exitFailed, "no-such-id", "--since 24h", "--since")
}
