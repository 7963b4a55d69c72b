package wire_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rccs-io/rccs/wire"
)

// example is a fenced block of docs/protocol.md.
type example struct {
	line int
	info string // what stands behind the fence
	text []byte
}

func protocolPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func examples(t *testing.T) (all []example) {
	t.Helper()
	var open *example
	for n, line := range strings.Split(protocolPage(t), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &example{line: n + 1, info: info}
		case fence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text = append(append(open.text, line...), '\n')
		}
	}
	if open != nil {
		t.Fatalf("line %d: the block is never closed", open.line)
	}
	return all
}

// TestExamplesOfThePage decodes each JSON example, holds it to its schema, and
// wants one of every message.
func TestExamplesOfThePage(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	s, event := doc.schemas(t), doc.schema(t, "components", "schemas", "Event")
	shown := map[string]bool{}
	for _, x := range examples(t) {
		switch x.info {
		case "json device", "json edge":
			x.checkFrame(t, s, strings.TrimPrefix(x.info, "json "), shown)
		case "json event":
			x.check(t, event)
		case "sh", "mermaid":
		default:
			t.Errorf("line %d: a block of kind %q, which no test reads", x.line, x.info)
		}
	}
	for side, names := range byDirection {
		for name := range strings.FieldsSeq(names) {
			if !shown[side+" "+name] {
				t.Errorf("no example of message %s from the %s", name, side)
			}
		}
	}
}

func (x *example) check(t *testing.T, schema *jsonschema.Schema) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.text))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("line %d: %v", x.line, err)
	}
}

func (x *example) checkFrame(t *testing.T, s *schemas, side string, shown map[string]bool) {
	t.Helper()
	items, err := wire.DecodeFrame(nil, x.text)
	if err != nil {
		t.Errorf("line %d: %v", x.line, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.text))
	if err != nil {
		t.Fatal(err)
	}
	elements, isArray := value.([]any)
	if !isArray {
		elements = []any{value}
	}
	for i := range items {
		if items[i].Err != nil {
			t.Errorf("line %d: %v", x.line, items[i].Err)
			continue
		}
		if c, ok := codecOf(side, items[i].Type, items[i].Payload); ok && items[i].Payload != nil {
			if _, err := c.decode(items[i].Payload); err != nil {
				t.Errorf("line %d: %v", x.line, err)
			}
		}
		matches := 0
		for name := range strings.FieldsSeq(byDirection[side]) {
			if s.messages[name].Validate(elements[i]) == nil {
				shown[side+" "+name] = true
				matches++
			}
		}
		if matches != 1 {
			t.Errorf("line %d: it is %d of the messages that the document has, want 1", x.line, matches)
		}
	}
}

// TestPageNamesEverything: what is in the closed sets is on the page.
func TestPageNamesEverything(t *testing.T) {
	t.Parallel()
	page := protocolPage(t)
	var names []string
	var types []struct{ Type, By string }
	readTable(t, "types", &types)
	for _, row := range types {
		names = append(names, "`"+row.Type+"`")
	}
	for _, code := range wire.Codes() {
		names = append(names, "\n| `"+string(code)+"` |")
	}
	for code := range wire.CloseCode(5000) {
		if code.Reason() != "" {
			names = append(names, "\n| "+code.String()+" |")
		}
	}
	doc := readAsyncAPI(t)
	names = append(names, keys(doc.at("components", "schemas", "Headers", "properties"))...)
	for _, field := range keys(doc.at("components", "schemas", "Envelope", "properties")) {
		names = append(names, "`"+field+"`")
	}
	names = append(names, "`"+strings.Join(texts(doc.at("channels", "event", "parameters", "kind", "enum")), "`, `")+"`")
	slices.Sort(names)
	for _, name := range names {
		if !strings.Contains(page, name) {
			t.Errorf("the page does not have %s", fmt.Sprintf("%q", name))
		}
	}
}
