package wire_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

// trusted are the payloads that an edge sends and that a client takes with
// less ado. An ack of an edge has many forms, told apart by their members.
func trusted() map[string]codec {
	return map[string]codec{
		"answers": {
			decode: func(payload []byte) (any, error) {
				if _, err := wire.DecodeAnswer(payload); err != nil {
					return nil, err
				}
				return payload, nil
			},
			encode: func(value any) []byte { return encodeAnswer(value.([]byte)) },
		},
		"errors":     ofPointer(wire.DecodeError, func(e *wire.Error) []byte { return e.AppendPayload(nil) }),
		"challenges": ofAnswer(wire.DecodeChallenge, func(c wire.Challenge) []byte { return c.Append(nil, "") }),
		"acks": ofPointer(func(payload []byte) (*wire.Ack, error) {
			a, err := wire.DecodeAck(nil, payload)
			return &a, err
		}, func(a *wire.Ack) []byte { return onlyPayload(a.Append(nil)) }),
		"registers": ofPointer(wire.DecodeRegister, func(r *wire.Register) []byte { return r.AppendPayload(nil) }),
	}
}

func ofPointer[T any](decode func([]byte) (*T, error), encode func(*T) []byte) codec {
	return codec{
		decode: func(payload []byte) (any, error) { return decode(payload) },
		encode: func(value any) []byte { return encode(value.(*T)) },
	}
}

func onlyPayload(frame []byte) []byte {
	items, err := wire.DecodeFrame(nil, frame)
	if err != nil || len(items) != 1 {
		return nil
	}
	return items[0].Payload
}

// encodeAnswer decodes an ack of an edge as what it is, and encodes that.
func encodeAnswer(payload []byte) []byte {
	var members map[string]json.RawMessage
	a, err := wire.DecodeAnswer(payload)
	if err != nil || json.Unmarshal(payload, &members) != nil {
		return nil
	}
	has := func(key string) bool { return members[key] != nil }
	switch {
	case has("cancel"):
		return onlyPayload(wire.AppendCancel(nil, a.Cancel))
	case has("cancelled"):
		return wire.AppendCancelledPayload(nil, a.OriginalMessageID, a.Cancelled)
	case has("sessionId"):
		return onlyPayload(a.Append(nil))
	case has("recipients"):
		accepted := a.Accepted()
		return onlyPayload(accepted.Append(nil))
	case has("deviceId"):
		outcome := a.Outcome()
		return outcome.AppendPayload(nil)
	case has("duplicate"):
		p := wire.Published{OriginalID: a.OriginalMessageID, Topic: a.Topic, Seq: a.Seq, Duplicate: a.Duplicate}
		return onlyPayload(p.Append(nil))
	case has("topic"):
		s := wire.Subscribed{OriginalID: a.OriginalMessageID, Topic: a.Topic, Seq: a.Seq, Epoch: a.Epoch, Reset: a.Reset, Since: a.Since}
		return onlyPayload(s.Append(nil))
	}
	return onlyPayload(wire.AppendSuccess(nil, a.OriginalMessageID))
}

// byDirectory are the codecs by the directory of their vectors, those with a
// test of their own left out.
func byDirectory() map[string]codec {
	all := codecs()
	for name, c := range trusted() {
		if name != "acks" && name != "registers" {
			all[name] = c
		}
	}
	return all
}

func TestPayloadVectors(t *testing.T) {
	t.Parallel()
	for dir, c := range byDirectory() {
		for _, v := range vectors(t, dir) {
			t.Run(dir+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				value, err := c.decode(v.frame())
				v.checkValue(t, err, func() []byte { return c.encode(value) })
			})
		}
	}
}

// codecOf is how the payload of a whole frame is read; ok is false for a type
// whose payload is the application's, or says nothing.
func codecOf(direction, typ string, payload []byte) (c codec, ok bool) {
	names := map[string]string{
		wire.TypeUnregister: "unregister", wire.TypeDeviceList: "list-devices", wire.TypeStatus: "status", wire.TypeSubscribe: "subscribe",
		wire.TypeUnsubscribe: "subscribe", wire.TypePublish: "publish", wire.TypeHistory: "history",
		wire.TypeRequest: "request", wire.TypeResponse: "response", wire.TypeRegister: "registers",
		wire.TypeAck: "acks", wire.TypeError: "errors", wire.TypePresence: "presence", wire.TypeGap: "gap",
	}
	name := names[typ]
	if direction == "edge" {
		switch {
		case typ == wire.TypeRegister:
			name = "challenges"
		case typ == wire.TypeAck && bytes.Contains(payload, []byte(`"devices":`)):
			name = "device-list"
		case typ == wire.TypeAck && bytes.Contains(payload, []byte(`"messages":`)):
			name = "history-page"
		case typ == wire.TypeAck:
			name = "answers"
		}
	}
	if c, ok = codecs()[name]; !ok {
		c, ok = trusted()[name]
	}
	return c, ok
}

// TestWholeFrames reads what each side says, envelope and payload.
func TestWholeFrames(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"device", "edge"} {
		for _, v := range vectors(t, direction) {
			t.Run(direction+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				items, err := wire.DecodeFrame(nil, v.frame())
				if err != nil || len(items) != len(v.Items) {
					t.Fatalf("%d items, %v; want %d", len(items), err, len(v.Items))
				}
				for i := range items {
					v.Items[i].check(t, &items[i])
					if c, ok := codecOf(direction, items[i].Type, items[i].Payload); ok {
						v.Items[i].checkPayload(t, c, items[i].Payload)
					}
				}
			})
		}
	}
}

func (want *vectorItem) checkPayload(t *testing.T, c codec, payload []byte) {
	t.Helper()
	value, err := c.decode(payload)
	switch {
	case err != nil && want.Refused == nil:
		t.Fatalf("payload refused: %v", err)
	case err != nil:
		want.Refused.check(t, wire.AsError(err))
	case want.Refused != nil:
		t.Fatalf("payload %s accepted, want %+v", payload, want.Refused)
	case payload != nil:
		sameJSON(t, c.encode(value), payload)
	}
}

// TestEveryTypeHasAFrame: a type that no vector shows is one that nobody can
// be held to.
func TestEveryTypeHasAFrame(t *testing.T) {
	t.Parallel()
	sent := map[string][]string{}
	for _, direction := range []string{"device", "edge"} {
		for _, v := range vectors(t, direction) {
			items, err := wire.DecodeFrame(nil, v.frame())
			if err != nil {
				t.Fatal(err)
			}
			for i := range items {
				if typ := items[i].Type; v.Items[i].Refused == nil && !slices.Contains(sent[typ], direction) {
					sent[typ] = append(sent[typ], direction)
				}
			}
		}
	}
	var rows []struct{ Type, By string }
	readTable(t, "types", &rows)
	for _, row := range rows {
		want := []string{row.By}
		if row.By == "both" {
			want = []string{"device", "edge"}
		}
		if !wire.IsControl(row.Type) || !slices.Equal(sent[row.Type], want) {
			t.Errorf("%s: control %v, sent by %v in the vectors, want %v", row.Type, wire.IsControl(row.Type), sent[row.Type], want)
		}
		delete(sent, row.Type)
	}
	for typ := range sent {
		if wire.IsControl(typ) {
			t.Errorf("%s is missing in tables/types.json", typ)
		}
	}
}

func readTable(t *testing.T, name string, rows any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "tables", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		About string
		Rows  json.RawMessage
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&table); err != nil || table.About == "" {
		t.Fatalf("%s: %v", name, err)
	}
	in = json.NewDecoder(bytes.NewReader(table.Rows))
	in.DisallowUnknownFields()
	if err := in.Decode(rows); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	var codes []struct {
		Code  wire.Code
		Retry string
		Close wire.CloseCode
	}
	readTable(t, "codes", &codes)
	all := wire.Codes()
	if len(codes) != len(all) {
		t.Fatalf("%d codes in the table, %d in the package", len(codes), len(all))
	}
	retries := map[wire.Retry]string{wire.RetryNever: "never", wire.RetryLater: "later", wire.RetryCredential: "credential"}
	for i, row := range codes {
		end, _ := row.Code.Close()
		if row.Code != all[i] || row.Retry != retries[row.Code.Retry()] || row.Close != end {
			t.Errorf("row %+v, want %s, %s, %s", row, all[i], retries[all[i].Retry()], end)
		}
	}
	var closes []struct {
		Code      wire.CloseCode
		Reconnect string
	}
	readTable(t, "closes", &closes)
	answers := map[wire.Reconnect]string{
		wire.ReconnectNo: "no", wire.ReconnectNow: "now", wire.ReconnectLater: "later", wire.ReconnectCredential: "credential",
	}
	known := 0
	for code := range wire.CloseCode(5000) {
		if code.Reason() != "" {
			known++
		}
	}
	if len(closes) != known {
		t.Errorf("%d closes in the table, %d in the package", len(closes), known)
	}
	for _, row := range closes {
		if row.Reconnect != answers[row.Code.Reconnect()] || row.Code.Reason() == "" {
			t.Errorf("row %+v, want %s", row, answers[row.Code.Reconnect()])
		}
	}
}

// TestNoFileUnread fails on a file of testdata that no test reads: it would
// look like a promise, and be none.
func TestNoFileUnread(t *testing.T) {
	t.Parallel()
	read := []string{"README.md", "fuzz/*/*", "tables/codes.json", "tables/closes.json", "tables/types.json"}
	for _, dir := range []string{"frames", "acks", "registers", "device", "edge"} {
		read = append(read, dir+"/*.json")
	}
	for dir := range byDirectory() {
		read = append(read, dir+"/*.json")
	}
	err := filepath.WalkDir("testdata", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, "testdata"+string(filepath.Separator)))
		if !slices.ContainsFunc(read, func(pattern string) bool {
			ok, _ := filepath.Match(pattern, name)
			return ok
		}) {
			t.Errorf("testdata/%s is read by no test", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
