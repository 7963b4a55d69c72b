package guard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

func TestExamine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ api, body, want, refused string }{
		"pull":               {"CONSUMER.CREATE.S.x", `{"stream_name":"S","config":{"name":"x"}}`, `{"config":{"name":"x"},"stream_name":"S"}`, ""},
		"push":               {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":"_INBOX.a"}}`, `{"config":{"deliver_subject":"rccs.deliver._INBOX.a"}}`, ""},
		"empty subject":      {"CONSUMER.DURABLE.CREATE.S.x", `{"config":{"deliver_subject":""}}`, `{"config":{"deliver_subject":""}}`, ""},
		"unknown fields":     {"CONSUMER.CREATE.S", `{"new":[1],"config":{}}`, "", "not for services"},
		"unknown in it":      {"CONSUMER.CREATE.S", `{"config":{"x":{"y":1.50}}}`, "", "not for services"},
		"says nothing":       {"CONSUMER.CREATE.S", `{"config":{"direct":false,"x":null}}`, `{"config":{}}`, ""},
		"direct":             {"CONSUMER.CREATE.S", `{"config":{"direct":true}}`, "", "not for services"},
		"direct, shouted":    {"CONSUMER.CREATE.S", `{"config":{"DIRECT":true}}`, "", "not for services"},
		"ours in the body":   {"CONSUMER.CREATE.S", `{"config":{"name":"rccs-reader-x"}}`, "", "taken by RCCS"},
		"ours, durable":      {"CONSUMER.CREATE.S.x", `{"config":{"durable_name":"rccs-reader-x"}}`, "", "taken by RCCS"},
		"another name":       {"CONSUMER.CREATE.S.x", `{"config":{"name":"y"}}`, "", "name one"},
		"another durable":    {"CONSUMER.DURABLE.CREATE.S.x", `{"config":{"durable_name":"y"}}`, "", "name one"},
		"another stream":     {"CONSUMER.CREATE.S.x", `{"stream_name":"RCCS_INBOX","config":{"name":"x"}}`, "", "name one"},
		"purge more":         {"STREAM.PURGE.RCCS_LATER", `{"filter":"rccs.later.a.b.low.x","Filter":"rccs.later.>"}`, "", "not for services"},
		"no configuration":   {"CONSUMER.CREATE.S", `{}`, "", "not a JSON object"},
		"elsewhere":          {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":"$JS.API.STREAM.PURGE.S"}}`, "", "below _INBOX"},
		"a pattern":          {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":"_INBOX.>"}}`, "", "below _INBOX"},
		"two tokens at once": {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":"_INBOX.a b"}}`, "", "below _INBOX"},
		"a control":          {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":"_INBOX.a\u0000b"}}`, "", "below _INBOX"},
		"no string":          {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":1}}`, "", "not a string"},
		"another case":       {"CONSUMER.CREATE.S", `{"config":{"Deliver_subject":"x"}}`, "", "not for services"},
		"another letter":     {"CONSUMER.CREATE.S", "{\"config\":{\"deliver_\u017fubject\":\"x\"}}", "", "not for services"},
		"another config":     {"CONSUMER.CREATE.S", `{"CONFIG":{}}`, "", "not for services"},
		"the last counts":    {"CONSUMER.CREATE.S", `{"config":{"deliver_subject":"_INBOX.a","deliver_subject":"x"}}`, "", "below _INBOX"},
		"no object":          {"CONSUMER.CREATE.S", `[]`, "", "not a JSON object"},
		"nothing":            {"CONSUMER.CREATE.S", ``, "", "not a JSON object"},
		"look up":            {"CONSUMER.INFO.S.x", ``, ``, ""},
		"delete":             {"CONSUMER.DELETE.S.x", ``, ``, ""},
		"delete ours":        {"CONSUMER.DELETE.S.rccs-reader-x", ``, "", "consumer not found"},
		"look up ours":       {"CONSUMER.INFO.S.rccs-reader-x", ``, "", "consumer not found"},
		"change ours":        {"CONSUMER.CREATE.S.rccs-reader-x", `{"config":{}}`, "", "taken by RCCS"},
		"change, filtered":   {"CONSUMER.CREATE.S.rccs-reader-x.a.b", `{"config":{}}`, "", "taken by RCCS"},
		"change, as of old":  {"CONSUMER.DURABLE.CREATE.S.rccs-reader-x", `{"config":{}}`, "", "taken by RCCS"},
		"cancel":             {"STREAM.PURGE.RCCS_LATER", `{"filter":"rccs.later.a.b.low.x"}`, `{"filter":"rccs.later.a.b.low.x"}`, ""},
		"cancel a user's":    {"STREAM.PURGE.RCCS_LATER", `{"filter":"rccs.later.a.>"}`, `{"filter":"rccs.later.a.\u003e"}`, ""},
		"cancel all":         {"STREAM.PURGE.RCCS_LATER", `{"filter":"rccs.later.*.b.low.x"}`, "", "name what to cancel"},
		"cancel what":        {"STREAM.PURGE.RCCS_LATER", ``, "", "not a JSON object"},
		"cancel null":        {"STREAM.PURGE.RCCS_LATER", `null`, "", "name what to cancel"},
		"another request":    {"STREAM.DELETE.S", ``, "", "not offered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kind, pass, refused := examine(strings.Split(c.api, "."), []byte(c.body))
			if c.refused != "" {
				if refused == nil || !strings.Contains(refused.text, c.refused) {
					t.Fatalf("%q, %+v, want a refusal with %q", pass, refused, c.refused)
				}
				var answer struct {
					Type  string
					Error struct {
						Code, ErrCode int
						Description   string
					}
				}
				if err := json.Unmarshal(refused.answer(kind), &answer); err != nil || answer.Error.Code/100 != 4 || !strings.HasPrefix(answer.Type, "io.nats.jetstream.api.v1.") {
					t.Errorf("answered %+v, %v", answer, err)
				}
				return
			}
			if refused != nil || string(pass) != strings.ReplaceAll(c.want, `>`, `\u003e`) {
				t.Errorf("%q, %+v, want %q", pass, refused, c.want)
			}
		})
	}
}

// The consumers of RCCS are in no page of a list, and each other one is in one.
func TestListsAreWithoutOurs(t *testing.T) {
	t.Parallel()
	const limit, total = 4, 23
	for _, names := range []bool{true, false} {
		var all []string
		for n := range total {
			name := fmt.Sprintf("c%d", n)
			if n%3 == 0 {
				name = "rccs-reader-" + name
			}
			if names {
				all = append(all, fmt.Sprintf("%q", name))
			} else {
				all = append(all, fmt.Sprintf(`{"name":%q,"config":{"name":"x"}}`, name))
			}
		}
		ask := func(body []byte) ([]byte, error) { // as JetStream answers
			var want struct{ Offset int }
			if err := json.Unmarshal(body, &want); err != nil {
				return nil, err
			}
			return fmt.Appendf(nil, `{"type":"t","total":%d,"offset":%d,"limit":%d,"missing":["rccs-reader-m"],"consumers":[%s]}`,
				total, want.Offset, limit, strings.Join(all[want.Offset:min(want.Offset+limit, total)], ",")), nil
		}
		var found []string
		for offset := 0; ; {
			body := fmt.Appendf(nil, `{"offset":%d}`, offset)
			first, err := ask(fmt.Appendf(nil, `{"offset":%d}`, min(offset, total)))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := withoutOurs(first, ask, body)
			if err != nil {
				t.Fatal(err)
			}
			var got page
			if err := json.Unmarshal(answer, &got); err != nil || got.Offset != offset || len(got.Consumers) > limit || strings.Contains(string(answer), "rccs-reader-") {
				t.Fatalf("from %d: %s, %v", offset, answer, err)
			}
			for _, c := range got.Consumers {
				found = append(found, nameOf(c))
			}
			if offset += len(got.Consumers); offset >= got.Total || len(got.Consumers) == 0 {
				break
			}
		}
		if len(found) != total*2/3 || !slices.IsSortedFunc(found, func(a, b string) int { return len(a) - len(b) }) {
			t.Errorf("found %v", found)
		}
	}
}

// Whatever is passed on means, to a reader that goes by Go's rules as JetStream
// does, a subject that only services hear.
func FuzzExamine(f *testing.F) {
	for _, body := range []string{
		`{"config":{"deliver_subject":"_INBOX.a"}}`, `{"config":{"deliver_subject":"x","DELIVER_SUBJECT":"y"}}`, `{"Config":{"deliver_subject":"x"},"config":{}}`,
		"{\"config\":{\"deliver_\u017fubject\":\"x\"}}", `{"config":null}`, `{"config":[]}`, `{"filter":"rccs.later.a.b"}`, `{"config":{"deliver_subject":null}}`,
	} {
		f.Add("CONSUMER.CREATE.S.x", []byte(body))
		f.Add("STREAM.PURGE.RCCS_LATER", []byte(body))
	}
	f.Fuzz(func(t *testing.T, api string, body []byte) {
		tokens := strings.Split(api, ".")
		_, pass, refused := examine(tokens, body)
		if refused != nil {
			return
		}
		var request struct {
			Stream string `json:"stream_name"`
			Config struct {
				DeliverSubject string `json:"deliver_subject"`
				Name           string `json:"name"`
				Durable        string `json:"durable_name"`
				Direct         bool   `json:"direct"`
			} `json:"config"`
			Filter string `json:"filter"`
		}
		if err := json.Unmarshal(pass, &request); err != nil {
			return // JetStream refuses it
		}
		if c := request.Config; c.Direct || isOurs(c.Name) || isOurs(c.Durable) || namesOurs(tokens) || request.Stream != "" && !slices.Contains(tokens, request.Stream) {
			t.Errorf("%s %s is passed on as %s", api, body, pass)
		}
		switch what := strings.Join(tokens[:min(2, len(tokens))], "."); {
		case slices.Contains([]string{"CONSUMER.INFO", "CONSUMER.LIST", "CONSUMER.NAMES", "CONSUMER.DELETE"}, what): // name no subject
		case request.Config.DeliverSubject != "" && !strings.HasPrefix(request.Config.DeliverSubject, layout.DeliverPrefix+"_INBOX."):
			if what != "STREAM.PURGE" {
				t.Errorf("%s delivers to %q", body, request.Config.DeliverSubject)
			}
		case what == "STREAM.PURGE" && !layout.IsCancel(request.Filter):
			t.Errorf("%s purges %q", body, request.Filter)
		}
	})
}
