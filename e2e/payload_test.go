package e2e_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// payloads are JSON texts that a re-encoder would change.
func payloads() []string {
	deep := strings.Repeat("[", 500) + strings.Repeat("]", 500)
	objects := strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500)
	return []string{
		`null`, `true`, `0`, `-0`, `""`, `[]`, `{}`, `"text"`,
		`{ "b" : 1 ,` + "\t\r\n" + ` "a" : [ 1 , 2 ] }`,
		`{"z":1,"a":2,"z":3,"":{}}`,
		`"\u0041\u00e9\ud83d\ude00\u0000\u001f\/\b\f\n\r\t\"\\"`,
		`"\ud800"`, `"\udc00\ud800"`, `{"\ud83d":"half"}`,
		`"é 日本 😀 ` + "\u2028\u2029\ufeff\u007f\u0080" + ` <script>&amp;</script>"`,
		`12345678901234567890123456789012345678901234567890`,
		`1.0`, `1e400`, `-1E+5`, `0.1e-999999`, `3.141592653589793238462643383279`, `1.10`,
		`9007199254740993`, `18446744073709551616`, `1E0000000000000000000000001`,
		deep, objects,
		`"` + strings.Repeat("x", 100_000) + `"`,
		`{"id":"not the id","seq":1,"type":"ack","payload":{"payload":1}}`,
	}
}

func TestProtocol_2_PayloadByteForByte(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/away")
	sender, live := connect(t, s, u+"/sender", nil), connect(t, s, u+"/live", nil)
	service := s.service(t, "payloads")
	for i, payload := range payloads() {
		for _, to := range []string{"live", "away"} {
			id := newID()
			if i%2 == 0 {
				sender.sendText(`{"id":"` + id + `","type":"note","toDeviceId":"` + to + `","payload":` + payload + `,"requiresAck":true}`)
			} else {
				sender.sendText(" {\n\"payload\" : " + payload + " ,\"toDeviceId\":\"" + to + `","requiresAck":true,"type":"note","id":"` + id + "\" }\t")
			}
			sender.wantAccepted(id, to)
		}
		live.wantMessage(payload)
	}
	for _, payload := range payloads() {
		service.publish(inbox(u, "live", "normal"), payload)
		live.wantMessage(payload)
	}
	// From the store, singly and in arrays.
	for _, batch := range []bool{false, true} {
		away := connect(t, s, u+"/away", object{"batch": batch})
		for _, payload := range payloads() {
			away.wantMessage(payload)
		}
	}
}

// wantMessage reads the next message, which must have this payload, as JSON.
func (d *device) wantMessage(payload string) envelope {
	d.t.Helper()
	e := d.message()
	if string(e.Payload) != payload {
		d.t.Errorf("payload %.200q came as %.200q", payload, e.Payload)
	}
	if e.Encoding != "" {
		d.t.Errorf("payload %.200q came with encoding %q", payload, e.Encoding)
	}
	return e
}

func TestProtocol_2_BytesThatAreNotJSONComeAsBase64(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	service := s.service(t, "bytes")
	for _, body := range []string{
		"hello", "{", `{'a':1}`, `{"a":1}x`, `1 2`, "NaN", "\x00", "\xff\xfe", "\"\xff\"", "{\"a\":\"\xc3\x28\"}", "\"\xed\xa0\x80\"",
		"\xef\xbb\xbf{}", "01", "+1", "1.", "\"a\nb\"", `"\x"`, "[1,]", " ", "nul", strings.Repeat("[", 100_000), strings.Repeat("\x01", 10_000),
	} {
		service.publish(inbox(u, "d", "normal"), body)
		e := d.message()
		var text string
		decode(t, e.Payload, &text)
		got, err := base64.StdEncoding.DecodeString(text)
		if e.Encoding != "base64" || err != nil || string(got) != body {
			t.Errorf("body %.100q came as %.300s (%v)", body, e.raw, err)
		}
	}
}

func TestProtocol_2_EmptyBodyIsNull(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	s.service(t, "empty").publish(inbox(u, "d", "normal"), "")
	d.wantMessage("null")
}

func TestProtocol_2_WhitespaceAroundABodyIsNoHarm(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	s.service(t, "spaces").publish(inbox(u, "d", "normal"), " \r\n\t{ \"a\" : 1 }\n\n")
	d.wantMessage(`{ "a" : 1 }`)
}

// sized is a message to device d whose frame has exactly size bytes.
func sized(id string, size int) string {
	head := fmt.Sprintf(`{"id":%q,"type":"note","toDeviceId":"d","requiresAck":true,"payload":"`, id)
	return head + strings.Repeat("x", size-len(head)-2) + `"}`
}

func TestProtocol_2_FrameAtTheLimitIsCarried(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	limit := d.session.MaxMessageBytes
	if limit != 1<<20 {
		t.Errorf("maxMessageBytes is %d, want the default of 1 MiB", limit)
	}
	for _, size := range []int{limit - 1, limit} {
		id := newID()
		d.sendText(sized(id, size))
		d.wantAccepted(id, "d")
		if e := d.message(); len(e.Payload) < size-200 {
			t.Errorf("frame of %d bytes came with a payload of %d", size, len(e.Payload))
		}
	}
}

func TestProtocol_2_FrameOverTheLimitIsToldAndCloses(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	neighbour := connect(t, s, u+"/neighbour", nil)
	for _, over := range []int{1, 1000, 3 << 20} {
		d := connect(t, s, u+"/d", nil)
		_ = d.post(sized(newID(), d.session.MaxMessageBytes+over)) // it may be cut
		d.wantError("MESSAGE_TOO_LARGE")
		d.wantClose(1009)
		neighbour.beat()
	}
	connect(t, s, u+"/d", nil).beat()
}

func TestProtocol_2_TooLargeArrivesWhileTheClientStillSends(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	sent := make(chan error, 1)
	go func() { sent <- d.post(sized(newID(), 48<<20)) }()
	d.wantError("MESSAGE_TOO_LARGE")
	d.wantClose(1009)
	d.close()
	if err := <-sent; err != nil {
		t.Logf("the frame was cut: %v", err) // it may have been
	}
}

func TestProtocol_2_TooLargeBeforeRegistration(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := greeted(t, s, dialing{})
	_ = d.post(sized(newID(), 2<<20)) // it may be cut
	d.wantError("MESSAGE_TOO_LARGE")
	d.wantClose(1009)
}

func TestProtocol_2_TooLargeForANeighbourIsRefusedByNATS(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	service := s.service(t, "large")
	if got := service.nc.MaxPayload(); got < 1<<20+64<<10 {
		t.Errorf("NATS max_payload is %d, want 64 KiB more than the largest frame", got)
	}
	d := connect(t, s, u+"/d", nil)
	body := `"` + strings.Repeat("y", 1<<20) + `"`
	service.publish(inbox(u, "d", "normal"), body)
	d.wantMessage(body)
}
