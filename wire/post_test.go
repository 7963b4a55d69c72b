package wire_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

func TestPostWithAMemberGivenTwiceIsRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"to":{"user":"a"},"type":"note","payload":1,"payload":2}`,
		`{"to":{"user":"a"},"to":{"user":"b"},"type":"note","payload":1}`,
		`{"to":{"user":"a","user":"b"},"type":"note","payload":1}`,
		`{"to":{"user":"a","us\u0065r":"b"},"type":"note","payload":1}`,
		`{"to":{"user":"a"},"type":"note","payload":1,"id":"x","id":"x"}`,
	} {
		posts, _, err := wire.DecodePosts([]byte(body), 10)
		if err != nil || len(posts) != 1 || posts[0].Err == nil || posts[0].Err.Code != wire.BadMessage {
			t.Errorf("%s: %+v, %v", body, posts, err)
		}
	}
	// What is inside a payload is the application's.
	posts, _, err := wire.DecodePosts([]byte(`{"to":{"user":"a"},"type":"note","payload":{"a":1,"a":2}}`), 10)
	if err != nil || posts[0].Err != nil {
		t.Errorf("%+v, %v", posts, err)
	}
}

// What in an array is no message is refused by itself, as it would be alone.
func TestElementsOfAnArrayThatAreNoMessagesAreRefusedEach(t *testing.T) {
	t.Parallel()
	const body = `[5, {"to":{"user":"a"},"type":"note","payload":1}, null, [[{"to":{"user":"b"}}]], "x"]`
	posts, array, err := wire.DecodePosts([]byte(body), 5)
	if err != nil || !array || len(posts) != 5 {
		t.Fatalf("%d posts, %v", len(posts), err)
	}
	for i, p := range posts {
		if good := i == 1; good != (p.Err == nil) || !good && p.Err.Code != wire.BadMessage {
			t.Errorf("element %d: %v", i, p.Err)
		}
	}
	for _, body := range []string{`[5`, `[5,]`, `[nul]`, `[5 5]`} {
		if _, _, err := wire.DecodePosts([]byte(body), 5); err == nil || err.Code != wire.BadMessage {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, _, err := wire.DecodePosts([]byte(`[1,2,3]`), 2); err == nil || err.Code != wire.MessageTooLarge {
		t.Errorf("more than two: %v", err)
	}
}

func TestAPostToNullGoesToNobody(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]bool{
		`{"user":"a","device":null}`: false, `{"user":"a","deviceType":null,"mode":"any"}`: false, `{"user":"a","capability":null,"device":null}`: false,
		`{"user":"a"}`: true, `{"user":"a","mode":null}`: true, `{"user":"a","device":"b","capability":null}`: true,
	} {
		posts, _, err := wire.DecodePosts([]byte(`{"to":`+to+`,"type":"note","payload":1}`), 1)
		if err != nil || (posts[0].Err == nil) != want {
			t.Errorf("%s: %+v, %v", to, posts, err)
		}
	}
}

// What is taken is JSON, for a user, of a type that applications use, and its
// payload is what JSON's own parser finds there.
func FuzzDecodePosts(f *testing.F) {
	for _, seed := range []string{
		`{"to":{"user":"a","device":"b"},"type":"note","payload":{"n":1},"id":"m","priority":"high","ttlMs":5,"deliverAt":"2026-12-01T00:00:00Z"}`,
		`[{"to":{"user":"a","deviceType":"t","mode":"any"},"type":"x","payload":null},{"to":1},{},5,null,[[]]]`,
		`[]`, `[[[`, `{"to":{"user":"\ud83d"},"type":"x","payload":0}`, "\xff", `{"a":{"a":{}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 4
		posts, array, err := wire.DecodePosts(body, most)
		if err != nil {
			return
		}
		if !json.Valid(body) || len(posts) > most || !array && len(posts) != 1 {
			t.Fatalf("%q is taken as %d posts, array %t", body, len(posts), array)
		}
		var raw []json.RawMessage
		if !array {
			body = slices.Concat([]byte("["), body, []byte("]"))
		}
		if err := json.Unmarshal(body, &raw); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		for i, p := range posts {
			if p.Err != nil {
				continue
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(raw[i], &members); err != nil {
				t.Fatalf("%q is taken as %+v: %v", raw[i], p, err)
			}
			if p.User == "" || !wire.ValidType(p.Type) || wire.IsControl(p.Type) || !bytes.Equal(p.Payload, members["payload"]) {
				t.Errorf("%q is taken as %+v", body, p)
			}
		}
	})
}
