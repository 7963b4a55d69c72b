package coordinator

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/rccs-io/rccs/internal/strictjson"
	"github.com/rccs-io/rccs/wire"
)

// decode reads the request's body into a struct; an empty body counts as an empty
// object. From operators and services it accepts only members that the endpoint
// knows, in their exact letter case, which Go does not insist on, and each only
// once. Whoever misspells "dryRun" as "dry_run" must not get the real run.
func (r *request) decode(into any) *wire.Error {
	if len(r.Data) == 0 {
		return nil
	}
	if err := strictjson.Unmarshal(r.Data, into); err != nil {
		return wire.NewError(wire.BadMessage, "the request is not as this endpoint takes it: "+err.Error())
	}
	if r.key != "" {
		return nil
	}
	if name, twice := strictjson.Twice(r.Data); twice {
		return wire.Errorf(wire.BadMessage, "the request has %q more than once", name)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(r.Data, &members); err != nil {
		return wire.NewError(wire.BadMessage, "the request is not a JSON object")
	}
	known := make(map[string]bool)
	memberNames(reflect.TypeOf(into).Elem(), known)
	for name := range members {
		if !known[name] {
			return wire.Errorf(wire.BadMessage, "the request has a member that this endpoint does not know: %q", name)
		}
	}
	return nil
}

// memberNames collects the JSON names of a struct's fields, embedded ones
// included.
func memberNames(t reflect.Type, known map[string]bool) {
	for f := range t.Fields() {
		if f.Anonymous {
			memberNames(f.Type, known)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[name] = true
	}
}
