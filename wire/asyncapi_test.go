package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/rccs-io/rccs/wire"
)

// asyncAPI is docs/asyncapi.yaml, as JSON values.
type asyncAPI struct {
	root     map[string]any
	compiler *jsonschema.Compiler
}

const asyncURL = "https://rccs.invalid/asyncapi.json"

func readAsyncAPI(t *testing.T) *asyncAPI {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "asyncapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	text, err = json.Marshal(doc) // so that numbers are what the schemas expect
	if err != nil {
		t.Fatal(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7) // what AsyncAPI means when it says schema
	if err := c.AddResource(asyncURL, root); err != nil {
		t.Fatal(err)
	}
	return &asyncAPI{root: root.(map[string]any), compiler: c}
}

// at is the value at a path of the document.
func (a *asyncAPI) at(path ...string) any {
	var v any = a.root
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (a *asyncAPI) schema(t *testing.T, path ...string) *jsonschema.Schema {
	t.Helper()
	s, err := a.compiler.Compile(asyncURL + "#/" + strings.Join(path, "/"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemas are the compiled schemas of messages by name, and of payloads by the
// directory of their vectors.
type schemas struct {
	frame    *jsonschema.Schema
	envelope *jsonschema.Schema
	messages map[string]*jsonschema.Schema
	payloads map[string][]*jsonschema.Schema // any of them
}

func (a *asyncAPI) schemas(t *testing.T) *schemas {
	t.Helper()
	s := &schemas{
		frame:    a.schema(t, "components", "schemas", "Frame"),
		envelope: a.schema(t, "components", "schemas", "Envelope"),
		messages: map[string]*jsonschema.Schema{}, payloads: map[string][]*jsonschema.Schema{},
	}
	for name, message := range a.at("components", "messages").(map[string]any) {
		if message.(map[string]any)["payload"] != nil {
			s.messages[name] = a.schema(t, "components", "messages", name, "payload")
		}
	}
	for dir, names := range map[string]string{
		"status": "DeviceStatus", "presence": "Presence", "unregister": "Unregister", "subscribe": "Subscribe",
		"publish": "Publish", "history": "History", "gap": "Gap", "request": "Request", "response": "Response",
		"device-list": "Devices", "history-page": "HistoryPage", "errors": "Error", "challenges": "Challenge",
		"acks": "Acknowledge", "list-devices": "ListDevices", "registers": "Register",
		"answers": "Registered Success Accepted Outcome Devices Subscribed Published HistoryPage Cancel",
	} {
		for name := range strings.FieldsSeq(names) {
			s.payloads[dir] = append(s.payloads[dir], a.schema(t, "components", "schemas", name))
		}
	}
	return s
}

// anyOf is nil when one of the schemas takes the value.
func anyOf(all []*jsonschema.Schema, value any) (err error) {
	for _, schema := range all {
		if err = schema.Validate(value); err == nil {
			return nil
		}
	}
	return err
}

// without drops null members of an object, which stand for absent ones, but
// where null is a value.
func without(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	kept := map[string]any{}
	for key, v := range object {
		isValue := slices.Contains([]string{"payload", "data", "params", "result"}, key)
		switch {
		case v == nil && !isValue:
		case key == "to", key == "error":
			kept[key] = without(v)
		case key == "devices":
			list, _ := v.([]any)
			kept[key] = v
			if list != nil {
				kept[key] = slices.Collect(mapped(list, without))
			}
		default:
			kept[key] = v
		}
	}
	return kept
}

func mapped(list []any, change func(any) any) func(func(any) bool) {
	return func(yield func(any) bool) {
		for _, v := range list {
			if !yield(change(v)) {
				return
			}
		}
	}
}

// judge compares a schema's judgement with the vector's.
func (v *vector) judge(t *testing.T, what string, good bool, err error) {
	t.Helper()
	switch {
	case v.Unseen:
		if good == (err == nil) {
			t.Errorf("%s: a schema judges it as the vector does, so unseen is wrong", what)
		}
	case good && err != nil:
		t.Errorf("%s: %v", what, err)
	case !good && err == nil:
		t.Errorf("%s: the schema takes it, the protocol does not", what)
	}
}

// value is the input as JSON values; ok is false for what is not JSON, which
// no schema gets to see.
func (v *vector) value() (value any, ok bool) {
	text := v.frame()
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, false
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	return value, err == nil
}

func TestSchemasJudgePayloadsAsTheVectorsDo(t *testing.T) {
	t.Parallel()
	s := readAsyncAPI(t).schemas(t)
	for dir := range s.payloads {
		for _, v := range vectors(t, dir) {
			if value, ok := v.value(); ok {
				if (dir == "unregister" || dir == "list-devices") && value == nil {
					continue // null is no payload, and judged with the message
				}
				v.judge(t, dir+"/"+v.name, v.Error == nil, anyOf(s.payloads[dir], without(value)))
			}
		}
	}
}

func TestSchemasJudgeFramesAsTheVectorsDo(t *testing.T) {
	t.Parallel()
	s := readAsyncAPI(t).schemas(t)
	for _, dir := range []string{"frames", "device", "edge"} {
		for _, v := range vectors(t, dir) {
			if value, ok := v.value(); ok {
				s.judgeFrame(t, dir, v, value)
			}
		}
	}
}

func (s *schemas) judgeFrame(t *testing.T, dir string, v *vector, value any) {
	t.Helper()
	name := dir + "/" + v.name
	err := s.frame.Validate(value)
	if v.Error != nil || err != nil {
		v.judge(t, name, v.Error == nil, err)
		return
	}
	elements, isArray := value.([]any)
	if !isArray {
		elements = []any{value}
	}
	if len(elements) != len(v.Items) {
		t.Fatalf("%s: %d elements, %d items", name, len(elements), len(v.Items))
	}
	for i, item := range v.Items {
		envelope := without(elements[i]).(map[string]any)
		if dir == "frames" {
			v.judge(t, name, item.Error == nil, s.envelope.Validate(envelope))
			continue
		}
		if payload, ok := envelope["payload"]; ok {
			envelope["payload"] = without(payload)
		}
		all := s.candidates(dir, envelope)
		if len(all) == 0 {
			t.Errorf("%s: no message of the document has type %v", name, envelope["type"])
			continue
		}
		v.judge(t, name, item.Refused == nil, anyOf(all, envelope))
	}
}

// byDirection are the names of the document's messages that each side sends.
var byDirection = map[string]string{
	"device": "register unregister deviceStatus heartbeat acknowledge deviceList subscribe unsubscribe publish history " +
		"request response message",
	"edge": "challenge registered success accepted outcome devices subscribed published historyPage cancelled error " +
		"presence topic gap request response message",
}

// candidates are the schemas of the messages that side may send with this
// type: those that take the type, whatever else they say.
func (s *schemas) candidates(side string, envelope map[string]any) []*jsonschema.Schema {
	var all []*jsonschema.Schema
	for name := range strings.FieldsSeq(byDirection[side]) {
		err := s.messages[name].Validate(envelope)
		if err == nil || !strings.Contains(fmt.Sprintf("%v", err), "at '/type'") {
			all = append(all, s.messages[name])
		}
	}
	return all
}

// TestSchemasTakeEnrolments: what is sent and answered fits the document, and
// what lacks something does not.
func TestSchemasTakeEnrolments(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	check := func(name string, v any, good bool) {
		t.Helper()
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := doc.schema(t, "components", "schemas", name).Validate(value); (err == nil) != good {
			t.Errorf("%s as %s: %v", text, name, err)
		}
	}
	e := wire.Enrollment{Code: "ABCD-EFGH", Tenant: "acme", Device: "phone", PublicKey: "UABC", Time: time.Unix(1_700_000_000, 5).UTC()}
	signed, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	check("SignedRequest", signed, false) // it is not signed
	signed.Sig = "c2ln"
	check("SignedRequest", signed, true)
	check("Enrollment", e, true)
	check("Enrollment", map[string]any{"publicKey": "UABC"}, false)
	check("Enrollment", map[string]any{"time": "2025-01-01T00:00:00Z"}, false)
	check("Enrolled", wire.Enrolled{JWT: "e", User: "u", Device: "d"}, true)
	check("Enrolled", map[string]any{"jwt": "e"}, false)
}
