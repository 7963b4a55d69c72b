package coordinator

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
)

// A request that is taken has members of the endpoint and no others, whatever
// letter case or nesting they come in.
func FuzzDecodeRequest(f *testing.F) {
	for _, body := range []string{
		`{"user":"alice","device":"phone","limit":3}`, `{"USER":"bob"}`, `{"user":"a","user":"b"}`, `{"user":{"user":1}}`, `[]`, `null`, `{"":1}`,
		"{\"u\u017fer\":\"x\"}", `{"limit":1e99}`, `{"after":"alice/phone"} {}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var into struct {
			page
			Device string `json:"device"`
			DryRun bool   `json:"dryRun"`
		}
		if (&request{Msg: &nats.Msg{Data: body}}).decode(&into) != nil || len(body) == 0 {
			return
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("%q was taken: %v", body, err)
		}
		for name := range members {
			switch name {
			case "user", "device", "after", "limit", "dryRun":
			default:
				t.Errorf("%q was taken with member %q", body, name)
			}
		}
	})
}
