package wire_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

// vector is a file of testdata; its README says what the fields mean.
type vector struct {
	name string

	About string          `json:"about"`
	Text  json.RawMessage `json:"text"`
	Bytes []byte          `json:"bytes"`
	// Unseen says that a JSON schema cannot tell what is wrong, or that it is
	// stricter than what is taken.
	Unseen bool             `json:"unseen"`
	Error  *vectorError     `json:"error"`
	Items  []vectorItem     `json:"items"`
	Value  *json.RawMessage `json:"value"`
}

type vectorError struct {
	Code       wire.Code `json:"code"`
	OriginalID string    `json:"originalMessageId"`
	Names      string    `json:"names"`
}

type vectorItem struct {
	Envelope json.RawMessage `json:"envelope"`
	Payload  *string         `json:"payload"`
	Error    *vectorError    `json:"error"`
	Refused  *vectorError    `json:"refused"` // the payload, for its type
}

// frame is the input: text, a list of texts with how often each is repeated,
// or bytes that are not text.
func (v *vector) frame() []byte {
	if v.Bytes != nil {
		return v.Bytes
	}
	var text string
	if json.Unmarshal(v.Text, &text) == nil {
		return []byte(text)
	}
	var parts []struct {
		Text  string `json:"text"`
		Times int    `json:"times"`
	}
	if err := json.Unmarshal(v.Text, &parts); err != nil {
		return nil
	}
	var all strings.Builder
	for _, part := range parts {
		all.WriteString(strings.Repeat(part.Text, part.Times))
	}
	return []byte(all.String())
}

func vectors(t testing.TB, dir string) []*vector {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors in testdata/%s: %v", dir, err)
	}
	var all []*vector
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		v := &vector{name: strings.TrimSuffix(filepath.Base(path), ".json")}
		in := json.NewDecoder(bytes.NewReader(text))
		in.DisallowUnknownFields()
		if err := in.Decode(v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if v.About == "" || v.Bytes == nil && v.Text == nil {
			t.Fatalf("%s: needs about, and text or bytes", path)
		}
		all = append(all, v)
	}
	return all
}

func (v *vectorError) check(t *testing.T, got *wire.Error) {
	t.Helper()
	if got.Code != v.Code || got.OriginalID != v.OriginalID || !strings.Contains(got.Text(), v.Names) {
		t.Errorf("error %v about %q, want %s about %q that names %q", got, got.OriginalID, v.Code, v.OriginalID, v.Names)
	}
}

func TestFrameVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "frames") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			items, err := wire.DecodeFrame(nil, v.frame())
			if err != nil {
				if v.Error == nil {
					t.Fatalf("refused: %v", err)
				}
				v.Error.check(t, wire.AsError(err))
				return
			}
			if v.Error != nil || len(items) != len(v.Items) {
				t.Fatalf("%d items, want %d, error %+v", len(items), len(v.Items), v.Error)
			}
			for i := range items {
				v.Items[i].check(t, &items[i])
			}
			checkAgainstReference(t, v.frame())
		})
	}
}

func (want *vectorItem) check(t *testing.T, got *wire.Item) {
	t.Helper()
	if want.Error != nil {
		if got.Err == nil {
			t.Fatalf("accepted %+v, want %+v", got.Envelope, want.Error)
		}
		want.Error.check(t, got.Err)
		return
	}
	if got.Err != nil {
		t.Fatalf("refused: %v", got.Err)
	}
	payload := got.Payload
	if (payload == nil) != (want.Payload == nil) || payload != nil && string(payload) != *want.Payload {
		t.Errorf("payload %q, want %v", payload, want.Payload)
	}
	bare := got.Envelope
	bare.Payload = nil
	sameJSON(t, bare.Append(nil), want.Envelope)
	checkRoundTrip(t, &got.Envelope)
}

func sameJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal(want, &b); err != nil {
		t.Fatalf("%v in %s", err, want)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestAckVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "acks") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			a, err := wire.DecodeAck(nil, v.frame())
			v.checkValue(t, err, func() []byte {
				items, _ := wire.DecodeFrame(nil, a.Append(nil))
				return items[0].Payload
			})
		})
	}
}

func TestRegisterVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "registers") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			r, err := wire.DecodeRegister(v.frame())
			v.checkValue(t, err, func() []byte {
				held, _ := json.Marshal(append([]string{}, r.Held...))
				return []byte(`{"payload":` + string(r.AppendPayload(nil)) + `,"held":` + string(held) + `}`)
			})
		})
	}
}

// checkValue compares a decoded payload, encoded again, with the vector.
func (v *vector) checkValue(t *testing.T, err error, encoded func() []byte) {
	t.Helper()
	switch {
	case err != nil && v.Error == nil:
		t.Fatalf("refused: %v", err)
	case err != nil:
		v.Error.check(t, wire.AsError(err))
	case v.Error != nil || v.Value == nil:
		t.Fatalf("accepted as %s, want %+v", encoded(), v.Error)
	default:
		sameJSON(t, encoded(), *v.Value)
	}
}
