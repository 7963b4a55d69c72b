package node

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

// What a server tells of a connection is read without a fault, and counts for a
// device only where the credential in it is a device's.
func FuzzParseConnection(f *testing.F) {
	keys, err := auth.OpenKeystore(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	phone, err := keys.IssueDevice(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{Expires: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	service, err := keys.IssueService("billing", auth.ServiceOptions{})
	if err != nil {
		f.Fatal(err)
	}
	for _, token := range []string{phone.JWT, service.JWT, "", "a.b.c"} {
		event, err := json.Marshal(map[string]any{
			"server": map[string]any{"id": "S"}, "client": map[string]any{"id": 7, "acc": "A", "jwt": token, "start": time.Unix(1, 0)},
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(event)
	}
	f.Add([]byte(`{"client":{"jwt":1}}`))
	f.Add([]byte(`{"client":{"start":"never","stop":{}}}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		h, _, _, ok := parseConnection(event)
		if _, err := subjects.ParseAddress(h.device); ok != (err == nil) {
			t.Errorf("%q counts (%t) for %q", event, ok, h.device)
		}
	})
}
