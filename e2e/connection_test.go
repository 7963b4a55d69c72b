package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestProtocol_1_SubprotocolIsEchoed(t *testing.T) {
	t.Parallel()
	s := use(t)
	for offered, want := range map[string]string{"": "rccs.v1", "-": "", "other": ""} {
		if got := dial(t, s, dialing{subprotocol: offered}).ws.Subprotocol(); got != want {
			t.Errorf("offered %q: server chose %q, want %q", offered, got, want)
		}
	}
}

func TestProtocol_1_BothPathsAreServedAndNoOther(t *testing.T) {
	t.Parallel()
	s := use(t)
	for i, path := range []string{"/v1/ws", "/"} {
		connectBy(t, s, user(t)+"/d"+string(rune('0'+i)), dialing{path: path}, nil).beat()
	}
	if _, err := tryDial(t, s, dialing{path: "/v2/ws"}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("another path: %v, want status 404", err)
	}
}

func TestProtocol_1_PlainHTTPIsToldToUpgrade(t *testing.T) {
	t.Parallel()
	s := use(t)
	response, err := http.Get("http" + strings.TrimPrefix(s.Devices, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if response.StatusCode < 400 || response.StatusCode >= 500 {
		t.Errorf("status %d, want one that says it is the client's mistake", response.StatusCode)
	}
}

func TestProtocol_1_ArraysAreAcceptedFromEveryClient(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	d.send([]object{
		{"id": "a", "type": "note", "toDeviceId": "d", "payload": 1, "requiresAck": true},
		{"id": "b", "type": "note", "toDeviceId": "d", "payload": 2},
		{"id": "c", "type": "heartbeat", "payload": object{}},
		{"id": "e", "type": "Bad Type", "payload": 1},
	})
	answered, messages := map[string]bool{}, []string{}
	for len(answered) < 3 || len(messages) < 2 {
		e := d.next()
		switch {
		case e.array:
			t.Fatalf("an array came that was not asked for: %s", e.raw)
		case e.Seq > 0:
			messages = append(messages, string(e.Payload))
		default:
			var a answer
			decode(t, e.Payload, &a)
			answered[a.OriginalMessageID] = true
		}
	}
	for _, id := range []string{"a", "c", "e"} {
		if !answered[id] {
			t.Errorf("envelope %q of the array was not answered", id)
		}
	}
	if strings.Join(messages, "") != "12" {
		t.Errorf("messages %q, want those of the array in its order", messages)
	}
}

func TestProtocol_1_ArraysAreSentToWhomAskedOnly(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	const count = 200
	sender := connect(t, s, u+"/sender", nil)
	for _, device := range []string{"single", "batch"} {
		s.register(t, u+"/"+device)
		for i := range count {
			e := object{"id": newID(), "type": "note", "toDeviceId": device, "payload": i}
			if i == count-1 {
				sender.give(device, i, nil)
				break
			}
			sender.send(e)
		}
		s.caughtUp(t, u) // else the last ones come as they are read
		d := connect(t, s, u+"/"+device, object{"batch": device == "batch"})
		frames, arrays := map[int]bool{}, false
		for i := range count {
			e := d.message()
			if want := encode(t, i); string(e.Payload) != want {
				t.Fatalf("%s: message %d has payload %s", device, i, e.Payload)
			}
			frames[e.frame] = true
			arrays = arrays || e.array
		}
		switch device {
		case "single":
			if arrays || len(frames) != count {
				t.Errorf("without batch: %d messages in %d frames (arrays: %v)", count, len(frames), arrays)
			}
		case "batch":
			if !arrays || len(frames) > count/2 {
				t.Errorf("with batch: %d messages in %d frames, want few", count, len(frames))
			}
		}
	}
}

func TestProtocol_1_ArrayWithAnythingButObjectsIsOneBadFrame(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	const good = `{"id":"x","type":"note","toDeviceId":"d","payload":"must not be processed","requiresAck":true}`
	for name, text := range map[string]string{
		"number last": `[` + good + `,1]`,
		"null first":  `[null,` + good + `]`,
		"array":       `[` + good + `,[` + good + `]]`,
		"string":      `["x",` + good + `]`,
		"cut":         `[` + good + `,`,
	} {
		d.sendText(text)
		if f := d.wantError("BAD_FRAME"); f.OriginalMessageID != "" {
			t.Errorf("%s: BAD_FRAME names message %q of the frame", name, f.OriginalMessageID)
		}
		d.beat() // one error and no more; a good frame between, so that it is not the third in a row
	}
	d.give("d", "marker", nil)
	if e := d.message(); string(e.Payload) != `"marker"` {
		t.Errorf("an envelope of a bad frame was processed: %s", e.raw)
	}
}
