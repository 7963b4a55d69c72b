package coordinator_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/micro"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/rccs-io/rccs/coordinator"
)

// documented are the schemas of docs/asyncapi.yaml by the address of an
// endpoint.
type documented struct {
	call, answer, failure *jsonschema.Schema
}

var document = sync.OnceValues(readDocument)

func readDocument() (map[string]documented, error) {
	const url = "https://rccs.invalid/asyncapi.json"
	text, err := os.ReadFile(filepath.Join("..", "docs", "asyncapi.yaml"))
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(doc); err != nil {
		return nil, err
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource(url, root); err != nil {
		return nil, err
	}
	all := map[string]documented{}
	for _, channel := range doc["channels"].(map[string]any) {
		channel := channel.(map[string]any)
		address, _ := channel["address"].(string) // null of a reply
		if !strings.HasPrefix(address, "rccs.coordinator.") {
			continue
		}
		var d documented
		for name, into := range map[string]**jsonschema.Schema{"call": &d.call, "answer": &d.answer, "failure": &d.failure} {
			message := channel["messages"].(map[string]any)[name].(map[string]any)["$ref"].(string)
			if *into, err = c.Compile(url + message + "/payload"); err != nil {
				return nil, err
			}
		}
		all[address] = d
	}
	return all, nil
}

// addressOf is the address of the document that a subject, or the pattern of
// one, belongs to.
func addressOf(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) == 6 && tokens[2] == "device" {
		tokens[3], tokens[4] = "{user}", "{device}"
	}
	return strings.Join(tokens, ".")
}

// fits holds a request that was answered, and its answer, to the document.
func fits(t *testing.T, subject string, call, answer []byte, failed bool) {
	t.Helper()
	all, err := document()
	if err != nil {
		t.Fatal(err)
	}
	d, ok := all[addressOf(subject)]
	if !ok {
		return
	}
	if failed {
		fitsOne(t, subject, "failure", d.failure, answer)
		return
	}
	fitsOne(t, subject, "answer", d.answer, answer)
	if len(call) > 0 && string(call) != "null" {
		fitsOne(t, subject, "call", d.call, call)
	}
}

func fitsOne(t *testing.T, subject, what string, s *jsonschema.Schema, text []byte) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = s.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: the %s %s is not as docs/asyncapi.yaml has it: %v", subject, what, text, err)
	}
}

// TestEveryEndpointIsDocumented: what services and devices may ask has a schema of
// its request and of its answer, and each that has one can be asked.
func TestEveryEndpointIsDocumented(t *testing.T) {
	t.Parallel()
	all, err := document()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.coordinateWith(coordinator.Options{Enroller: signer{}})
	var info micro.Info
	p.askAt(p.nc, "$SRV.INFO."+coordinator.ServiceName, nil, &info)
	known := map[string]bool{}
	for _, e := range info.Endpoints {
		if strings.HasPrefix(e.Subject, "rccs.coordinator.part.") {
			continue // for the parts of RCCS alone
		}
		known[addressOf(e.Subject)] = true
		if _, ok := all[addressOf(e.Subject)]; !ok {
			t.Errorf("%s has no schemas", e.Subject)
		}
	}
	for address := range all {
		if !known[address] {
			t.Errorf("%s is documented, and nobody answers there", address)
		}
	}
}

// TestSchemasOfServicesTakeNoUnknownMembers: what an endpoint refuses, its schema
// refuses.
func TestSchemasOfServicesTakeNoUnknownMembers(t *testing.T) {
	t.Parallel()
	all, err := document()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.coordinate()
	for address, d := range all {
		endpoint := strings.TrimPrefix(address, "rccs.coordinator.")
		if strings.Contains(endpoint, ".") || endpoint == "enroll" || endpoint == "renew" {
			continue // of devices, who may say more
		}
		for _, member := range []string{"dry_run", "User"} {
			body := map[string]any{"user": "alice", "device": "phone", member: true}
			if d.call.Validate(body) == nil {
				t.Errorf("%s: the schema takes %q", address, member)
			}
			if code := p.ask(endpoint, body, nil); code != "BAD_MESSAGE" {
				t.Errorf("%s: %q is answered with %q", address, member, code)
			}
		}
	}
}
