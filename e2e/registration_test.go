package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestProtocol_3_Challenge(t *testing.T) {
	t.Parallel()
	s := use(t)
	nonces := map[string]bool{}
	for range 8 {
		d := dial(t, s, dialing{})
		e := d.next()
		if e.Type != "device_register" || e.FromDeviceID != "server" || e.ID == "" {
			t.Errorf("challenge is %s", e.raw)
		}
		var c challenge
		decode(t, e.Payload, &c)
		at, err := time.Parse(time.RFC3339, c.ServerTime)
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("serverTime %q (%v)", c.ServerTime, err)
		}
		if len(c.Nonce) < 16 || c.Challenge == "" || nonces[c.Nonce] {
			t.Errorf("nonce %q is short, or came before", c.Nonce)
		}
		nonces[c.Nonce] = true
	}
}

func TestProtocol_3_RegisteredAckHasEveryField(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	var e envelope
	for began := time.Now(); ; {
		d := greeted(t, s, dialing{})
		d.send(object{"id": "reg-1", "type": "device_register", "payload": object{
			"id": "phone", "userId": u, "type": "mobile", "platform": "ios", "version": "1.2.3", "authToken": s.token(t, u+"/phone"),
			"capabilities": object{"supportsFileSync": true, "supportsNotifications": false, "maxFileSize": 1e6, "supportedFormats": []string{"png"}},
			"ackMode":      "explicit", "window": 17, "batch": false, "heartbeatMs": 6000,
		}})
		if e = d.next(); !turnedAway(e) || time.Since(began) > patience {
			break
		}
	}
	if e.Type != "ack" {
		t.Fatalf("registration answered with %s", e.raw)
	}
	var raw map[string]json.RawMessage
	decode(t, e.Payload, &raw)
	var a answer
	for field, into := range map[string]any{
		"status": &a.Status, "sessionId": &a.SessionID, "deviceId": &a.DeviceID, "userId": &a.UserID, "serverTime": &a.ServerTime,
		"resumed": &a.Resumed, "expiresAt": &a.ExpiresAt, "pending": &a.Pending, "heartbeatIntervalMs": &a.HeartbeatIntervalMs,
		"maxMessageBytes": &a.MaxMessageBytes, "window": &a.Window, "originalMessageId": &a.OriginalMessageID,
	} {
		if value, ok := raw[field]; !ok {
			t.Errorf("%s is missing in %s", field, e.Payload)
		} else if err := json.Unmarshal(value, into); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	want := answer{
		Status: "success", SessionID: a.SessionID, DeviceID: "phone", UserID: u, ServerTime: a.ServerTime, ExpiresAt: a.ExpiresAt,
		HeartbeatIntervalMs: 6000, MaxMessageBytes: 1 << 20, Window: 17, OriginalMessageID: "reg-1",
	}
	if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", want) {
		t.Errorf("answer %+v\nwant   %+v", a, want)
	}
	expires, err := time.Parse(time.RFC3339, a.ExpiresAt)
	if in := time.Until(expires); err != nil || in < 719*time.Hour || in > 721*time.Hour {
		t.Errorf("expiresAt %q (%v), want the default of 720h from now", a.ExpiresAt, err)
	}
	again := connect(t, s, u+"/phone", object{"heartbeatMs": 0})
	if a.SessionID == "" || again.session.SessionID != a.SessionID || !again.session.Resumed {
		t.Errorf("session %q was taken over as %q (resumed: %v)", a.SessionID, again.session.SessionID, again.session.Resumed)
	}
	if again.session.Window != 256 || again.session.HeartbeatIntervalMs >= 60_000 {
		t.Errorf("defaults: window %d, heartbeat %d ms; want 256 and below a minute", again.session.Window, again.session.HeartbeatIntervalMs)
	}
}

func TestProtocol_3_PendingCountsWhatWaits(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/d")
	sender := connect(t, s, u+"/sender", nil)
	for i := range 7 {
		sender.give("d", i, nil)
	}
	s.caughtUp(t, u)
	d := connect(t, s, u+"/d", nil)
	if d.session.Pending != 7 {
		t.Errorf("pending is %d, want 7", d.session.Pending)
	}
	for range 7 {
		d.ack(d.message().Seq)
	}
	d.leave()
	if d := connect(t, s, u+"/d", nil); d.session.Pending != 0 {
		t.Errorf("pending is %d after all was acknowledged", d.session.Pending)
	}
}

func TestProtocol_3_SignedNonce(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	creds := s.signing(t, u+"/d")
	encodings := map[string]*base64.Encoding{"unpadded": base64.RawURLEncoding, "padded": base64.URLEncoding}
	for name, encoding := range encodings {
		registering(t, s, name, dialing{}, func(d *device) object {
			sig, err := creds.key.Sign([]byte(d.challenge.Nonce))
			if err != nil {
				t.Fatal(err)
			}
			return object{"id": "d", "authToken": creds.jwt, "sig": encoding.EncodeToString(sig)}
		}).beat()
	}
}

func TestProtocol_3_AuthorizationHeader(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	bearer := http.Header{"Authorization": {"Bearer " + s.token(t, u+"/bearer")}}
	nothing := func(*device) object { return object{} }
	if a := registering(t, s, u+"/bearer", dialing{header: bearer}, nothing).session; a.DeviceID != "bearer" || a.UserID != u {
		t.Errorf("registered as %q of %q", a.DeviceID, a.UserID)
	}
	creds := s.signing(t, u+"/signing")
	how := dialing{header: http.Header{"Authorization": {"Bearer " + creds.jwt}}}
	registering(t, s, u+"/signing", how, func(d *device) object {
		return object{"id": "signing", "sig": creds.sign(t, d.challenge.Nonce)}
	})
}

// refusal is a first frame that ends the connection.
type refusal struct {
	payload func(d *device) object // of the registration
	how     dialing
	code    string
}

func TestProtocol_3_Refusals(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	elsewhere := start(t) // another installation, with other keys
	name := u + "/d"
	bearer, signing := s.token(t, name), s.signing(t, name)
	strange := parseCredentials(t, []byte(must(t, "creds", "device", u+"/other", "--data", s.data)))
	service := parseCredentials(t, []byte(must(t, "creds", "service", "backend", "--data", s.data)))
	token := func(jwt string) func(*device) object {
		return func(*device) object { return object{"id": "d", "authToken": jwt} }
	}
	parts := strings.Split(bearer, ".")
	forged := strings.Replace(decodeURL(t, parts[1]), u, "mallory", 1)
	for what, r := range map[string]refusal{
		"no token":            {payload: func(*device) object { return object{"id": "d"} }, code: "AUTH_REQUIRED"},
		"empty token":         {payload: token(""), code: "AUTH_REQUIRED"},
		"no JWT":              {payload: token("hello"), code: "AUTH_ERROR"},
		"dots":                {payload: token(".."), code: "AUTH_ERROR"},
		"another's keys":      {payload: token(elsewhere.token(t, name)), code: "AUTH_ERROR"},
		"cut":                 {payload: token(bearer[:len(bearer)-8]), code: "AUTH_ERROR"},
		"forged claims":       {payload: token(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(forged)) + "." + parts[2]), code: "AUTH_ERROR"},
		"no algorithm":        {payload: token(base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"none"}`)) + "." + parts[1] + "."), code: "AUTH_ERROR"},
		"missing sig":         {payload: token(signing.jwt), code: "AUTH_REQUIRED"},
		"service":             {payload: func(d *device) object { return signed(d, service, "d") }, code: "AUTH_ERROR"},
		"another's signature": {payload: func(d *device) object { return signed(d, credentials{signing.jwt, strange.key}, "d") }, code: "AUTH_ERROR"},
		"signature of nothing": {payload: func(*device) object {
			return object{"id": "d", "authToken": signing.jwt, "sig": signing.sign(t, "")}
		}, code: "AUTH_ERROR"},
		"old signature": {payload: func(*device) object {
			return object{"id": "d", "authToken": signing.jwt, "sig": signing.sign(t, greeted(t, s, dialing{}).challenge.Nonce)}
		}, code: "AUTH_ERROR"},
		"signature no base64": {payload: func(*device) object { return object{"id": "d", "authToken": signing.jwt, "sig": "***"} }, code: "AUTH_ERROR"},
		"other device":        {payload: func(*device) object { return object{"id": "e", "authToken": bearer} }, code: "IDENTITY_MISMATCH"},
		"other user":          {payload: func(*device) object { return object{"id": "d", "userId": "x", "authToken": bearer} }, code: "IDENTITY_MISMATCH"},
		"bad header":          {payload: func(*device) object { return object{"id": "d"} }, how: dialing{header: http.Header{"Authorization": {"Bearer nonsense"}}}, code: "AUTH_ERROR"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := greeted(t, s, r.how)
			d.name = what
			d.send(object{"id": "reg", "type": "device_register", "payload": r.payload(d)})
			if f := d.wantError(r.code); f.OriginalMessageID != "reg" {
				t.Errorf("the error is about %q", f.OriginalMessageID)
			}
			d.wantClose(4001)
		})
	}
}

func signed(d *device, c credentials, id string) object {
	return object{"id": id, "authToken": c.jwt, "sig": c.sign(d.t, d.challenge.Nonce)}
}

func decodeURL(t *testing.T, text string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProtocol_3_IdentityInTheEnvelopeMustAgree(t *testing.T) {
	t.Parallel()
	s := use(t)
	name := user(t) + "/d"
	for _, claim := range []object{{"fromDeviceId": "e"}, {"userId": "mallory"}} {
		d := greeted(t, s, dialing{})
		e := object{"id": "reg", "type": "device_register", "payload": object{"authToken": s.token(t, name)}}
		maps.Copy(e, claim)
		d.send(e)
		d.wantError("IDENTITY_MISMATCH")
		d.wantClose(4001)
	}
}

func TestProtocol_3_ExpiredTokenIsRefused(t *testing.T) {
	t.Parallel()
	s := use(t)
	name := user(t) + "/d"
	jwt := strings.TrimSpace(must(t, "creds", "device", name, "--bearer", "--expires", "1s", "--data", s.data))
	eventually(t, func() error {
		d := greeted(t, s, dialing{})
		defer d.close()
		d.send(object{"id": "reg", "type": "device_register", "payload": object{"authToken": jwt}})
		e := d.next()
		if e.Type == "ack" {
			return fmt.Errorf("the token still works: %s", e.raw)
		}
		var f failure
		decode(t, e.Payload, &f)
		if f.Code != "TOKEN_EXPIRED" {
			t.Fatalf("want TOKEN_EXPIRED, got %s", e.raw)
		}
		d.wantClose(4004) // so that the close code alone says: come back with a new one
		return nil
	})
}

func TestProtocol_3_ConnectionEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	s := use(t)
	name := user(t) + "/d"
	jwt := strings.TrimSpace(must(t, "creds", "device", name, "--bearer", "--expires", "15s", "--data", s.data))
	d := connect(t, s, name, object{"authToken": jwt})
	for {
		e, err := d.receive()
		if err == nil && e.Type == "error" {
			continue // it may say why
		}
		if !closedWith(err, 4004) {
			t.Fatalf("want close 4004, got %v %s", err, e.raw)
		}
		break
	}
}

func TestProtocol_3_RegisteringAgainRenews(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	name := u + "/d"
	jwt := strings.TrimSpace(must(t, "creds", "device", name, "--bearer", "--expires", "15s", "--data", s.data))
	d := connect(t, s, name, object{"authToken": jwt})
	ends, err := time.Parse(time.RFC3339, d.session.ExpiresAt)
	if err != nil {
		t.Fatal(err)
	}
	first := d.session
	if a := d.register(object{"id": "d", "authToken": s.token(t, name)}); a.ExpiresAt <= first.ExpiresAt || a.DeviceID != "d" {
		t.Errorf("renewal answered with %+v", a)
	}
	// A renewal that is refused changes nothing.
	d.send(object{"id": "bad", "type": "device_register", "payload": object{"authToken": s.token(t, u+"/other")}})
	d.wantError("IDENTITY_MISMATCH")
	d.send(object{"id": "bad", "type": "device_register", "payload": object{"authToken": "nonsense"}})
	d.wantError("AUTH_ERROR")
	eventually(t, func() error {
		d.beat()
		if time.Now().Before(ends.Add(2 * time.Second)) {
			return fmt.Errorf("the first credential has not ended yet")
		}
		return nil
	})
	d.give("d", "still here", nil)
	d.message()
}

func TestProtocol_3_SilentConnectionIsClosedAfterTenSeconds(t *testing.T) {
	t.Parallel()
	s := use(t)
	begin := time.Now()
	d := greeted(t, s, dialing{})
	d.wantError("AUTH_REQUIRED")
	d.wantClose(4001)
	if took := time.Since(begin); took < 9*time.Second {
		t.Errorf("closed after %v, want 10 s", took)
	}
}

func TestProtocol_3_PingsDoNotPutOffTheTenSeconds(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := greeted(t, s, dialing{})
	go func() {
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-tick.C:
				_ = d.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience))
			case <-d.gone:
				tick.Stop()
				return
			}
		}
	}()
	d.wantError("AUTH_REQUIRED")
	d.wantClose(4001)
}

func TestProtocol_3_AnotherFirstFrameIsRefused(t *testing.T) {
	t.Parallel()
	s := use(t)
	for first, want := range map[string]struct {
		code  string
		close int
	}{
		`{"id":"x","type":"note","toDeviceId":"d","payload":1}`:             {"AUTH_REQUIRED", 4001},
		`{"id":"x","type":"heartbeat"}`:                                     {"AUTH_REQUIRED", 4001},
		`{"id":"x","type":"ack","payload":{"seq":1}}`:                       {"AUTH_REQUIRED", 4001},
		`[{"id":"x","type":"note","payload":1},{"type":"device_register"}]`: {"AUTH_REQUIRED", 4001},
		`{"id":"x","type":"device_register","payload":{"authToken":7}}`:     {"BAD_MESSAGE", 4001},
		`{"id":"x","type":"device_register","payload":[]}`:                  {"BAD_MESSAGE", 4001},
		`{"id":"x","type":"device_register"}`:                               {"BAD_MESSAGE", 4001},
		`{"id":7,"type":"device_register","payload":{}}`:                    {"BAD_MESSAGE", 4001},
		`{"id":"x"`:         {"BAD_FRAME", 1008},
		`"device_register"`: {"BAD_FRAME", 1008},
		``:                  {"BAD_FRAME", 1008},
	} {
		d := greeted(t, s, dialing{})
		d.name = first
		d.sendText(first)
		d.wantError(want.code)
		d.wantClose(want.close)
	}
}

func TestProtocol_3_SecondConnectionTakesOver(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	first := connect(t, s, u+"/d", nil)
	neighbour := connect(t, s, u+"/neighbour", nil)
	for range 3 {
		second := connect(t, s, u+"/d", nil)
		first.wantError("SESSION_REPLACED")
		first.wantClose(4002)
		second.give("d", 1, nil)
		second.ack(second.message().Seq)
		first = second
	}
	neighbour.beat()
}

func TestProtocol_3_HeartbeatIsHonoured(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", object{"heartbeatMs": 5000})
	for asked, want := range map[int]int{1: 5000, 4999: 5000, 5000: 5000, 45_000: 45_000, 3_600_000: 300_000} {
		if a := connect(t, s, u+"/e", object{"heartbeatMs": asked}).session; a.HeartbeatIntervalMs != want {
			t.Errorf("heartbeatMs %d became %d, want %d (5 s to 5 min)", asked, a.HeartbeatIntervalMs, want)
		}
	}
	select {
	case <-d.pings:
	case <-time.After(25 * time.Second): // without asking, the first comes after 30 s
		t.Error("no ping came after 5 s")
	}
}

func TestProtocol_3_AckModeDefaultsBySubprotocol(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	for name, c := range map[string]struct {
		how   dialing
		extra object
		auto  bool
	}{
		"v1":          {dialing{}, nil, false},
		"none":        {dialing{subprotocol: "-"}, nil, true},
		"v1 auto":     {dialing{}, object{"ackMode": "auto"}, true},
		"none expl":   {dialing{subprotocol: "-"}, object{"ackMode": "explicit"}, false},
		"other proto": {dialing{subprotocol: "other"}, nil, true},
	} {
		d := connectBy(t, s, u+"/"+name, c.how, c.extra)
		d.tell(name, 1, nil)
		d.message()
		d.leave()
		want := 1
		if c.auto {
			want = 0
		}
		if again := connect(t, s, u+"/"+name, nil); again.session.Pending != want {
			t.Errorf("%s: %d pending after a message that was not acknowledged, want %d", name, again.session.Pending, want)
		}
	}
	d := greeted(t, s, dialing{})
	d.send(object{"id": "x", "type": "device_register", "payload": object{"authToken": s.token(t, u+"/x"), "ackMode": "sometimes"}})
	d.wantError("BAD_MESSAGE")
	d.wantClose(4001)
}
