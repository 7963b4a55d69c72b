package wire_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/rccs-io/rccs/wire"
)

// The reference says of the payloads that a device sends whether they are
// taken, on top of encoding/json. It shares no code with the package.

// refTakes is nil for a codec that has no reference.
func refTakes(name string) func(o *refObject) bool {
	return map[string]func(o *refObject) bool{
		"status":     refStatus,
		"unregister": func(o *refObject) bool { o.flag("forget"); return true },
		"subscribe":  func(o *refObject) bool { o.key("epoch"); return o.topic() && o.since() },
		"publish":    func(o *refObject) bool { _, given := o.members["data"]; return o.topic() && given },
		"history":    refHistory,
		"request": func(o *refObject) bool {
			o.atMost("timeoutMs")
			return o.has("method") && o.name("method") != ""
		},
		"response": refResponse,
	}[name]
}

func (o *refObject) topic() bool {
	topic := o.str("topic")
	for token := range strings.SplitSeq(topic, ".") {
		if token == "" || len(token) > 128 || strings.ContainsFunc(token, func(r rune) bool { return unicode.Is(unicode.Cc, r) && r != '\t' }) {
			return false
		}
	}
	return len(topic) <= 512
}

func (o *refObject) since() bool {
	raw := string(o.members["since"])
	switch {
	case !o.has("since"):
		return true
	case raw[0] == '"':
		if o.str("since") != "last" {
			o.when("since")
		}
		return true
	}
	n, huge, ok := refInt(o.members["since"])
	return ok && !huge && n >= 0
}

func refStatus(o *refObject) bool {
	switch o.str("status") {
	case "online", "away", "busy":
		return true
	}
	return false
}

func refHistory(o *refObject) bool {
	inbox := o.flag("inbox")
	o.atMost("limit")
	from := o.integer("from")
	if inbox {
		return from >= 0 && !o.has("topic")
	}
	return from >= 0 && o.topic()
}

func refResponse(o *refObject) bool {
	_, given := o.members["result"]
	if !o.has("error") {
		return given
	}
	var in refObject
	if o.has("result") || json.Unmarshal(o.members["error"], &in.members) != nil {
		return false
	}
	code := string(in.members["code"])
	if in.has("code") && code[0] == '"' {
		code = in.prose("code")
	}
	in.prose("message")
	kind := in.has("code") && strings.IndexByte(`"-0123456789`, in.members["code"][0]) >= 0
	return !in.bad && kind && code != "" && len(code) <= 128 && !strings.ContainsFunc(code, unicode.IsControl)
}

// checkTaken fails the test where the package and the reference disagree about
// a payload of valid UTF-8.
func checkTaken(t *testing.T, name string, c codec, payload []byte) {
	t.Helper()
	takes := refTakes(name)
	if takes == nil || name == "unregister" && string(payload) == "null" {
		return
	}
	var o refObject
	want := json.Unmarshal(payload, &o.members) == nil && o.members != nil
	want = want && takes(&o) && !o.bad
	value, err := c.decode(payload)
	if status, ok := value.(wire.DeviceStatus); want && err != nil && ok && len(payload) > wire.MaxStatusExtra && status.Status == "" {
		return // it says too much beside the status
	}
	if want != (err == nil) {
		t.Fatalf("%s %q: %v, the reference takes it: %v", name, payload, err, want)
	}
}

// TestRandomPayloads makes payloads of valid and invalid pieces, which byte
// mutations seldom reach.
func TestRandomPayloads(t *testing.T) {
	t.Parallel()
	keys := []string{
		"topic", "since", "data", "inbox", "from", "limit", "status", "forget", "method", "params", "timeoutMs", "result",
		"error", "code", "id", "other", `\u0074opic`, "Topic", "",
	}
	values := []string{
		`null`, `true`, `false`, `0`, `1`, `-1`, `-0`, `1.0`, `1e2`, `1001`, `9223372036854775807`, `9223372036854775808`,
		`"a"`, `"a.b"`, `"a..b"`, `"."`, `""`, `"a\u0000"`, `"a\tb"`, `"last"`, `"l\u0061st"`, `"away"`, `"\u0061way"`, `"offline"`,
		`"2025-01-31T12:00:00Z"`, `"2025-01-31"`, `{}`, `[]`, `{"code":"x"}`, `{"code":1,"message":"y"}`, `{"code":null}`,
		`{"code":"","message":1}`, `{"code":"a\u0085"}`, `{"code":"x","code":true}`, `"` + strings.Repeat("x", 129) + `"`,
	}
	rng := rand.New(rand.NewPCG(5, 5))
	all := codecs()
	for range 4_000 {
		var b strings.Builder
		for n := range rng.IntN(5) {
			if n > 0 {
				b.WriteString(" , ")
			}
			b.WriteString(`"` + keys[rng.IntN(len(keys))] + `":` + values[rng.IntN(len(values))])
		}
		payload := []byte("{" + b.String() + "}")
		for name, c := range all {
			checkTaken(t, name, c, payload)
			checkTravels(t, name, c, payload)
		}
	}
}
