package wire_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// TestDocumentHasEachNameAndNoOther compares closed sets.
func TestDocumentHasEachNameAndNoOther(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	var types []struct{ Type, By string }
	readTable(t, "types", &types)
	wantTypes := map[string]bool{}
	for _, row := range types {
		wantTypes[row.Type] = true
	}
	sameSet(t, "types", texts(doc.at("components", "schemas", "ControlType", "enum")), slices.Collect(maps.Keys(wantTypes)))
	used := map[string]bool{}
	constTypes(doc.at("components"), used)
	sameSet(t, "types of messages", slices.Collect(maps.Keys(used)), slices.Collect(maps.Keys(wantTypes)))

	var codes []string
	for _, code := range wire.Codes() {
		codes = append(codes, string(code))
		x, _ := doc.at("channels", "connection", "x-errors", string(code)).(map[string]any)
		end, _ := code.Close()
		want := map[wire.Retry]string{wire.RetryNever: "never", wire.RetryLater: "later", wire.RetryCredential: "credential"}[code.Retry()]
		if x["retry"] != want || end != 0 && fmt.Sprint(x["close"]) != end.String() || end == 0 && x["close"] != nil {
			t.Errorf("x-errors says %v of %s, want retry %s, close %s", x, code, want, end)
		}
	}
	sameSet(t, "error codes", texts(doc.at("components", "schemas", "ErrorCode", "enum")), codes)
	sameSet(t, "x-errors", keys(doc.at("channels", "connection", "x-errors")), codes)

	var closes []string
	for code := range wire.CloseCode(5000) {
		if code.Reason() == "" {
			continue
		}
		closes = append(closes, code.String())
		want := map[wire.Reconnect]string{
			wire.ReconnectNo: "no", wire.ReconnectNow: "now", wire.ReconnectLater: "later", wire.ReconnectCredential: "credential",
		}[code.Reconnect()]
		if got := doc.at("channels", "connection", "x-closes", code.String(), "reconnect"); got != want {
			t.Errorf("x-closes says %v of %s, want %s", got, code, want)
		}
	}
	sameSet(t, "x-closes", keys(doc.at("channels", "connection", "x-closes")), closes)
}

// constTypes gathers every {"type": {"const": …}} of the schemas.
func constTypes(value any, into map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		if typ, ok := v["type"].(map[string]any); ok {
			if name, ok := typ["const"].(string); ok {
				into[name] = true
			}
		}
		for _, inner := range v {
			constTypes(inner, into)
		}
	case []any:
		for _, inner := range v {
			constTypes(inner, into)
		}
	}
}

func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s in the document\n%v, in the code\n%v", what, got, want)
	}
}

func texts(list any) (all []string) {
	values, _ := list.([]any)
	for _, v := range values {
		all = append(all, fmt.Sprint(v))
	}
	return all
}

func keys(object any) []string {
	m, _ := object.(map[string]any)
	return slices.Collect(maps.Keys(m))
}

// TestDocumentHangsTogether: every reference leads somewhere, and nothing is
// defined that no operation leads to.
func TestDocumentHangsTogether(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	reached := map[string]bool{}
	doc.follow(t, doc.root["operations"], reached)
	for _, kind := range []string{"messages", "schemas", "parameters"} {
		for name := range doc.at("components", kind).(map[string]any) {
			// Frame is what a WebSocket message holds; AsyncAPI has no place for it.
			if !reached["#/components/"+kind+"/"+name] && name != "Frame" {
				t.Errorf("no operation leads to components.%s.%s", kind, name)
			}
		}
	}
	for name := range doc.at("channels").(map[string]any) {
		if !reached["#/channels/"+name] {
			t.Errorf("no operation has channel %s", name)
		}
	}
	var of []string
	for name := range doc.at("channels", "connection", "messages").(map[string]any) {
		of = append(of, name)
	}
	sent := slices.Concat(strings.Fields(byDirection["device"]), strings.Fields(byDirection["edge"]))
	slices.Sort(sent)
	sameSet(t, "messages of the connection", of, slices.Compact(sent))
}

func (a *asyncAPI) follow(t *testing.T, value any, reached map[string]bool) {
	t.Helper()
	switch v := value.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && !reached[ref] {
			reached[ref] = true
			target := a.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			if target == nil {
				t.Errorf("%s leads nowhere", ref)
			}
			a.follow(t, target, reached)
		}
		for _, inner := range v {
			a.follow(t, inner, reached)
		}
	case []any:
		for _, inner := range v {
			a.follow(t, inner, reached)
		}
	}
}

// TestDocumentNamesTheSubjects: what services use on NATS is in the document
// as package subjects builds it, and nothing else is.
func TestDocumentNamesTheSubjects(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	k := subjects.Address{User: "alice", Device: "phone"}.Key()
	topic, err := subjects.Topic("builds")
	if err != nil {
		t.Fatal(err)
	}
	built := map[string]string{
		"later": subjects.Later(k, 1, "m1"), "signal": subjects.Signal(k), "rpc": subjects.RPC(k, "open"),
		"topicStream": topic, "up": subjects.Up(k, "order"), "coordinatorDeviceRenewOwn": subjects.DeviceEndpoint(k, "renew"),
		"coordinatorShow": subjects.CoordinatorEndpoint("device"),
	}
	for _, name := range []string{"Fetch", "Ack", "Send", "Up"} {
		built["coordinatorDevice"+name] = subjects.DeviceEndpoint(k, strings.ToLower(name))
	}
	for _, name := range []string{"Status", "Devices", "Sessions", "Edges", "Forget", "Missed", "Replay", "Enroll", "Renew"} {
		built["coordinator"+name] = subjects.CoordinatorEndpoint(strings.ToLower(name))
	}
	channels := doc.at("channels").(map[string]any)
	for name, subject := range built {
		doc.checkAddress(t, name, subject)
	}
	for lane := range subjects.Lanes {
		doc.checkAddress(t, "inbox", subjects.Inbox(k, subjects.Lane(lane)))
	}
	for _, kind := range subjects.EventKinds() {
		doc.checkAddress(t, "event", subjects.Event(k, kind))
	}
	for _, any := range []bool{true, false} {
		doc.checkAddress(t, "routeOne", subjects.Route("alice", subjects.Selector{Any: any}))
		doc.checkAddress(t, "routeNamed", subjects.Route("alice", subjects.Selector{DeviceType: "desktop", Any: any}))
	}
	doc.checkAddress(t, "routeNamed", subjects.Route("alice", subjects.Selector{Capability: "camera"}))
	for _, name := range []string{"connection", "inbox", "event", "routeOne", "routeNamed", "rpcReply", "enrol"} {
		built[name] = ""
	}
	sameSet(t, "channels", keys(doc.at("channels")), slices.Collect(maps.Keys(built)))
	if len(channels) != len(built) {
		t.Errorf("%d channels", len(channels))
	}
	for _, header := range []string{
		subjects.HeaderID, subjects.HeaderType, subjects.HeaderFrom, subjects.HeaderCorrelation, subjects.HeaderCollapse,
		subjects.HeaderTTL, subjects.HeaderTimestamp, subjects.HeaderAck, subjects.HeaderTrace, subjects.HeaderPriority,
		layout.HeaderReplay,
	} {
		if doc.at("components", "schemas", "Headers", "properties", header) == nil {
			t.Errorf("header %s is missing", header)
		}
	}
}

// checkAddress fails unless the subject is one of the channel's, and its last
// parts are among those that the channel lists.
func (a *asyncAPI) checkAddress(t *testing.T, channel, subject string) {
	t.Helper()
	address, _ := a.at("channels", channel, "address").(string)
	want, got := strings.Split(address, "."), strings.Split(subject, ".")
	if len(want) != len(got) {
		t.Errorf("channel %s has address %s, the subject is %s", channel, address, subject)
		return
	}
	for i, part := range want {
		name, isParameter := strings.CutPrefix(part, "{")
		if !isParameter {
			if part != got[i] {
				t.Errorf("channel %s has address %s, the subject is %s", channel, address, subject)
			}
			continue
		}
		p := a.at("channels", channel, "parameters", strings.TrimSuffix(name, "}"))
		if ref, ok := p.(map[string]any)["$ref"].(string); ok {
			p = a.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		if enum := texts(p.(map[string]any)["enum"]); enum != nil && !slices.Contains(enum, got[i]) {
			t.Errorf("channel %s does not know %s in %s", channel, strconv.Quote(got[i]), subject)
		}
	}
}
