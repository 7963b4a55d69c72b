package coordinator_test

import (
	"encoding/json"
	"testing"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A member with a wrong name is refused, not ignored: of one in a replay all
// would be delivered that was only to be counted.
func TestEndpointsRefuseMembersThatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	k := p.register(e, "alice/desk", "desktop")
	p.publish(subjects.Inbox(k, subjects.Normal), "1")
	p.coordinate()
	desk := func(more map[string]any) map[string]any {
		more["user"], more["device"] = "alice", "desk"
		return more
	}
	for endpoint, body := range map[string]map[string]any{
		"replay": desk(map[string]any{"fromSeq": 1, "dry_run": true}), "missed": desk(map[string]any{"Limit": 1}),
		"device": desk(map[string]any{"USER": "bob"}), "forget": desk(map[string]any{"force": true}),
		"devices": {"online ": true}, "sessions": {"Edge": "e"}, "edges": {"all": true}, "status": {"x": nil},
	} {
		if code := p.ask(endpoint, body, nil); code != string(wire.BadMessage) {
			t.Errorf("%s %v: told %q, want BAD_MESSAGE", endpoint, body, code)
		}
	}
	if got := p.inbox("alice/desk"); len(got) != 1 {
		t.Errorf("the inbox has %v: something was done", got)
	}
	for endpoint, body := range map[string]string{
		"replay":  `{"user":"alice","device":"desk","fromSeq":1,"dryRun":true,"dryRun":false}`,
		"forget":  `{"user":"alice","device":"desk","device":"mac"}`,
		"devices": `{"user":"a\u200bb"}`,
	} {
		if code := p.ask(endpoint, json.RawMessage(body), nil); code != string(wire.BadMessage) {
			t.Errorf("%s %s: told %q, want BAD_MESSAGE", endpoint, body, code)
		}
	}
	if got := p.inbox("alice/desk"); len(got) != 1 {
		t.Errorf("the inbox has %v: something was done", got)
	}
	for _, number := range []string{"1", "1.0", "1e0", "10E-1"} {
		var counted struct{ Copied int }
		body := `{"user":"alice","device":"desk","dryRun":true,"fromSeq":` + number + `}`
		if code := p.ask("replay", json.RawMessage(body), &counted); code != "" || counted.Copied != 1 {
			t.Errorf("%s: told %q, %+v", body, code, counted)
		}
	}
	var done struct{ Copied int }
	if code := p.ask("replay", desk(map[string]any{"fromSeq": 1, "dryRun": true}), &done); code != "" || done.Copied != 1 {
		t.Errorf("a known member: told %q, %+v", code, done)
	}
}
