package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// creds writes a .creds file and returns the public key in it.
func creds(t *testing.T) (path, token string, public nkeys.KeyPair) {
	t.Helper()
	account, _ := nkeys.CreateAccount()
	user, _ := nkeys.CreateUser()
	key, _ := user.PublicKey()
	claims := jwt.NewUserClaims(key)
	claims.Name = "alice/phone"
	token, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	text, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "phone.creds")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	public, err = nkeys.FromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return path, token, public
}

func TestRegistersWithSignedNonce(t *testing.T) {
	t.Parallel()
	path, token, public := creds(t)
	ended := make(chan wire.CloseCode, 1)
	url := serve(t, func(p *peer) {
		r := p.registered(func(r *wire.Registered) {
			r.Resumed, r.Pending, r.ExpiresAt = true, 7, "2025-02-28T12:00:00Z"
		})
		sig, err := base64.RawURLEncoding.DecodeString(r.Sig)
		if err != nil || public.Verify([]byte("nonce-1"), sig) != nil {
			t.Errorf("signature %q does not fit the nonce", r.Sig)
		}
		if r.AuthToken != token || r.AckMode != wire.AckExplicit || r.DeviceID != "phone" || r.UserID != "alice" ||
			r.Type != "mobile" || !r.Batch || r.Window != 64 || r.Heartbeat != 20*time.Second ||
			len(r.Held) != 1 || r.Held[0] != "supportsFileSync" {
			t.Errorf("registered as %+v", r)
		}
		ended <- p.drain()
	})
	c := dial(t, url, client.Options{
		Credentials: client.CredentialsFile(path), User: "alice", Device: "phone", Type: "mobile", Window: 64, Batch: true,
		Heartbeat: 20 * time.Second, Capabilities: map[string]any{"supportsFileSync": true, "supportsNotifications": false},
	})
	s := c.Session()
	if s.ID != "session-0" || s.Device != "phone" || s.User != "alice" || !s.Resumed || s.Pending != 7 || s.Window != 256 ||
		s.Expires.Month() != time.February || s.Heartbeat != 20*time.Second || !s.Connected || s.MaxMessageBytes != 1<<20 {
		t.Errorf("session %+v", s)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if code := testkit.Await(t, "the end", ended); code != wire.CloseNormal {
		t.Errorf("closed with %s, want 1000", code)
	}
	if err := c.Err(); !errors.Is(err, client.ErrClosed) || c.Session().Connected {
		t.Errorf("after Close: %v, connected %v", err, c.Session().Connected)
	}
}

func TestRefusedRegistration(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		c := wire.Challenge{Nonce: "n"}
		p.send(string(c.Append(nil, "s")))
		p.next()
		p.send(string(wire.NewError(wire.AuthError, "who?").Append(nil)))
		p.close(wire.CloseAuth)
	})
	_, err := client.Dial(testkit.Soon(t), url, &client.Options{Token: "x"})
	var closed *client.CloseError
	if !errors.Is(err, wire.AuthError) || !errors.As(err, &closed) || closed.Code != wire.CloseAuth {
		t.Errorf("refusal is %v, want AUTH_ERROR and 4001", err)
	}
}

func TestDialGivesUp(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) { p.drain() }) // never a challenge
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Dial(ctx, url, &client.Options{Token: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent edge: %v, want the deadline", err)
	}
	for _, url := range []string{"", "ftp://x", "ws://", "127.0.0.1:1", "ws://127.0.0.1:1/v1/ws"} {
		if _, err := client.Dial(t.Context(), url, &client.Options{Token: "x"}); err == nil {
			t.Errorf("dialled %q", url)
		}
	}
	if _, err := client.Dial(t.Context(), url, nil); err == nil || !strings.Contains(err.Error(), "Credentials") {
		t.Errorf("no credential: %v, want an error that names what to set", err)
	}
}

// An attempt to connect that runs out of time says so, whatever it was at.
func TestDialThatRunsOutOfTimeSaysSo(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) { p.drain() })
	for n := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*10*time.Microsecond)
		if _, err := client.Dial(ctx, url, &client.Options{Token: "x"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d µs: %v, want the deadline", 10*n, err)
		}
		cancel()
	}
}

func TestReceivesAndAcknowledgesTogether(t *testing.T) {
	t.Parallel()
	const count = 200
	all := make(chan int, 1)
	url := serve(t, func(p *peer) {
		p.registered()
		var seqs []uint64
		var batch []string
		for seq := uint64(1); seq <= count; seq++ {
			seqs, batch = append(seqs, seq), append(batch, note(seq))
		}
		p.send("[" + strings.Join(batch[:100], ",") + "]")
		p.send(batch[100:]...)
		all <- p.acks(seqs...)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	var got []*client.Message
	for seq := uint64(1); seq <= count; seq++ {
		m := receive(t, c, seq)
		if string(m.Payload) != fmt.Sprintf(`{"n":%d}`, seq) || m.FromDeviceID != "desk" {
			t.Fatalf("message %+v", m.Envelope)
		}
		got = append(got, m)
	}
	for _, m := range got {
		m.Ack()
		m.Ack() // once is enough
	}
	if frames := testkit.Await(t, "all acks", all); frames > count/2 {
		t.Errorf("%d frames for %d acknowledgements, want them together", frames, count)
	}
}

// TestEachMessageOnce sends again, over a second connection, what was handled,
// what is being handled and what was not read, and twins under another seq.
func TestEachMessageOnce(t *testing.T) {
	t.Parallel()
	first := make(chan struct{})
	url := serve(t, func(p *peer) {
		if p.n == 0 {
			p.registered()
			p.send(note(1), note(2), note(3))
			p.acks(1)
			<-first
			return // cut
		}
		p.registered()
		again := map[string]any{"redelivered": true}
		p.send(changed(note(1), again), changed(note(2), again), changed(note(3), again))
		p.send(changed(note(1), map[string]any{"seq": 11}))                 // a twin of a handled one
		p.send(changed(note(2), map[string]any{"seq": 12}))                 // and of one being handled
		p.send(changed(note(1), map[string]any{"seq": 13, "replay": true})) // wanted again
		p.send(note(14))
		p.acks(1, 11, 12, 2, 3, 13, 14)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	receive(t, c, 1).Ack()
	slow := receive(t, c, 2)
	close(first)
	third := receive(t, c, 3)
	replayed, last := receive(t, c, 13), receive(t, c, 14)
	for _, m := range []*client.Message{slow, third, replayed, last} {
		m.Ack()
	}
	if err := c.Close(); err != nil { // sends the acks that are left
		t.Fatal(err)
	}
}

func TestHandleAcknowledgesWhatWasHandled(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{}, 1)
	url := serve(t, func(p *peer) {
		p.registered()
		if p.n == 0 {
			p.send(note(1), note(2), note(3))
			p.acks(1, 3)
			testkit.Await(t, "the failure", failed)
			return
		}
		p.send(changed(note(2), map[string]any{"redelivered": true}))
		p.acks(2)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	ctx, cancel := context.WithCancel(testkit.Soon(t))
	tries := 0
	c.Handle("", func(_ context.Context, m *client.Message) error {
		if m.Seq != 2 {
			return nil
		}
		if tries++; tries == 1 {
			failed <- struct{}{}
			return errors.New("not now")
		}
		if !m.Redelivered {
			t.Error("the second try is not redelivered")
		}
		cancel()
		return nil
	})
	err := c.Serve(ctx)
	if !errors.Is(err, context.Canceled) || tries != 2 {
		t.Errorf("Handle ended with %v after %d tries", err, tries)
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		for {
			e, ok := p.next()
			if !ok {
				return
			}
			if !e.RequiresAck || e.ID == "" {
				t.Errorf("sent %+v", e)
			}
			switch e.Type {
			case "refused":
				p.send(string(wire.NewError(wire.DeviceNotFound, "").For(e.ID).Append(nil)))
			case "mute":
			default:
				a := wire.Accepted{OriginalID: e.ID, Recipients: []wire.Recipient{{DeviceID: e.ToDeviceID, Seq: 5}}}
				p.send(string(a.Append(nil)))
			}
		}
	})
	c := dial(t, url, client.Options{})
	e := wire.NewEnvelope("", "note", []byte(`{"a":1}`))
	e.ToDeviceID = "desk"
	got, err := c.Send(testkit.Soon(t), e)
	if err != nil || len(got.Recipients) != 1 || got.Recipients[0] != (client.Recipient{Device: "desk", Seq: 5}) {
		t.Errorf("accepted %+v, %v", got, err)
	}
	if _, err := c.Send(testkit.Soon(t), wire.NewEnvelope("", "refused", []byte(`1`))); !errors.Is(err, wire.DeviceNotFound) {
		t.Errorf("refused with %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Send(ctx, wire.NewEnvelope("q", "mute", []byte(`1`))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without answer: %v", err)
	}
	for payload, code := range map[string]wire.Code{
		`{`: wire.BadMessage, ``: wire.BadMessage, `1,"type":"x"`: wire.BadMessage,
		`"` + strings.Repeat("x", 1<<20) + `"`: wire.MessageTooLarge,
	} {
		if _, err := c.Send(testkit.Soon(t), wire.NewEnvelope("b", "note", []byte(payload))); !errors.Is(err, code) {
			t.Errorf("payload %.20q: %v, want %s", payload, err, code)
		}
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := c.Send(t.Context(), wire.NewEnvelope("", "mute", []byte(`1`)))
		waiting <- err
	}()
	if _, err := c.Send(testkit.Soon(t), e); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	if err := testkit.Await(t, "the waiting Send", waiting); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Close left a Send with %v", err)
	}
	if _, err := c.Send(t.Context(), e); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
}

func TestATypeOfRCCSIsNoMessage(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		for e, ok := p.next(); ok; e, ok = p.next() {
			t.Errorf("sent %+v", e)
		}
	})
	c := dial(t, url, client.Options{})
	for _, typ := range []string{wire.TypeAck, wire.TypeHeartbeat, wire.TypeUnregister, wire.TypeStatus, wire.TypePublish, wire.TypeRequest} {
		e := wire.NewEnvelope("", typ, []byte(`{}`))
		if _, err := c.Send(testkit.Soon(t), e); !errors.Is(err, wire.BadMessage) {
			t.Errorf("%s was sent: %v", typ, err)
		}
		if err := c.Enqueue(e); !errors.Is(err, wire.BadMessage) {
			t.Errorf("%s is kept to be sent: %v", typ, err)
		}
	}
}

// TestSendSurvivesReconnect cuts the connection with messages unanswered and
// finds them again on the next one, same ids, same order.
func TestSendSurvivesReconnect(t *testing.T) {
	t.Parallel()
	const count = 5
	read := make(chan string, 2*count)
	url := serve(t, func(p *peer) {
		p.registered()
		for range count {
			e, ok := p.next()
			if !ok {
				t.Errorf("peer %d: the client ended early", p.n)
				return
			}
			read <- e.ID
			if p.n == 1 {
				a := wire.Accepted{OriginalID: e.ID, Duplicate: true}
				p.send(string(a.Append(nil)))
			}
		}
		if p.n == 1 {
			p.drain()
		}
	})
	c := dial(t, url, client.Options{})
	results := make(chan error, count)
	for i := range count {
		go func() {
			a, err := c.Send(testkit.Soon(t), wire.NewEnvelope(fmt.Sprintf("id-%d", i), "note", []byte(`1`)))
			if err == nil && (!a.Duplicate || a.ID != fmt.Sprintf("id-%d", i)) {
				err = fmt.Errorf("answer %+v", a)
			}
			results <- err
		}()
	}
	for range count {
		if err := testkit.Await(t, "an answer", results); err != nil {
			t.Error(err)
		}
	}
	var first, second []string
	for range count {
		first = append(first, <-read)
	}
	for range count {
		second = append(second, <-read)
	}
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("sent %v, then %v", first, second)
	}
}

func TestWhatWasSentIsWrittenBeforeClose(t *testing.T) {
	t.Parallel()
	read := make(chan int, 1)
	url := serve(t, func(p *peer) {
		p.registered()
		n := 0
		for {
			if _, ok := p.next(); !ok {
				read <- n
				return
			}
			n++
		}
	})
	for _, posts := range append([]int{500}, slices.Repeat([]int{2}, 50)...) {
		c := dial(t, url, client.Options{})
		for range posts {
			if err := c.SendNoWait(testkit.Soon(t), wire.NewEnvelope("", "note", []byte(`1`))); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Close()
		if n := testkit.Await(t, "the posts", read); n != posts {
			t.Fatalf("%d of %d posts were written", n, posts)
		}
	}
}

func TestComesBackOrNot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code    wire.CloseCode // 0: cut without a word
		static  bool           // the credential cannot be renewed
		returns bool
	}{
		{code: 0, returns: true},
		{code: wire.CloseGoingAway, returns: true},
		{code: wire.CloseTooLarge, returns: true},
		{code: wire.CloseOverloaded, returns: true},
		{code: wire.CloseRateLimited, returns: true},
		{code: wire.CloseExpired, returns: true},
		{code: 1011, returns: true},
		{code: wire.CloseExpired, static: true},
		{code: wire.CloseNormal},
		{code: wire.CloseBadUTF8},
		{code: wire.ClosePolicy},
		{code: wire.CloseAuth},
		{code: wire.CloseReplaced},
		{code: wire.CloseRevoked},
	} {
		t.Run(fmt.Sprintf("%s static %v", test.code, test.static), func(t *testing.T) {
			t.Parallel()
			tokens := make(chan string, 8)
			url := serve(t, func(p *peer) {
				tokens <- p.registered().AuthToken
				switch {
				case p.n > 0:
					p.drain()
				case test.code != 0:
					p.close(test.code)
				}
			})
			asked := 0
			opts := client.Options{Credentials: func(context.Context) (string, client.Signer, error) {
				asked++
				return fmt.Sprintf("token-%d", asked), nil, nil
			}}
			if test.static {
				opts = client.Options{Token: "token-1"}
			}
			c := dial(t, url, opts)
			if token := testkit.Await(t, "the first registration", tokens); token != "token-1" {
				t.Errorf("token %q", token)
			}
			if test.returns {
				if token := testkit.Await(t, "the second registration", tokens); token != "token-2" {
					t.Errorf("came back with %q, want a new credential", token)
				}
				return
			}
			testkit.Await(t, "the end", c.Done())
			var closed *client.CloseError
			if err := c.Err(); !errors.As(err, &closed) || closed.Code != test.code {
				t.Errorf("ended with %v, want %s", err, test.code)
			}
			if _, err := c.Receive(testkit.Soon(t)); !errors.As(err, &closed) {
				t.Errorf("Receive says %v", err)
			}
			if len(tokens) > 0 {
				t.Error("the client came back")
			}
		})
	}
}

func TestNoReconnect(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) { p.registered() })
	c := dial(t, url, client.Options{NoReconnect: true})
	testkit.Await(t, "the end", c.Done())
	if c.Err() == nil || errors.Is(c.Err(), client.ErrClosed) {
		t.Errorf("ended with %v, want what broke the connection", c.Err())
	}
}

func TestAnswersPingsAndLeavesADeadLink(t *testing.T) {
	t.Parallel()
	pong, second := make(chan string, 1), make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered(func(r *wire.Registered) { r.HeartbeatIntervalMs = 100 })
		if p.n > 0 {
			close(second)
			p.drain()
			return
		}
		p.ws.SetPongHandler(func(data string) error { pong <- data; return nil })
		if err := p.ws.WriteControl(websocket.PingMessage, []byte("beat"), time.Now().Add(patience)); err != nil {
			t.Error(err)
		}
		p.drain() // and nothing more: the link looks dead
	})
	lost := make(chan error, 1)
	dial(t, url, client.Options{OnDisconnect: func(err error) { lost <- err }})
	if data := testkit.Await(t, "the pong", pong); data != "beat" {
		t.Errorf("pong %q", data)
	}
	if err := testkit.Await(t, "the loss", lost); !errors.Is(err, client.ErrSilent) {
		t.Errorf("lost to %v, want silence", err)
	}
	testkit.Await(t, "the next connection", second)
}

func TestRetryFindsADeadLink(t *testing.T) {
	t.Parallel()
	second := make(chan struct{})
	pinged := make(chan struct{}, 1)
	url := serve(t, func(p *peer) {
		p.registered()
		if p.n > 0 {
			p.send(note(1))
			p.acks(1)
			close(second)
		} else {
			p.ws.SetPingHandler(func(string) error { pinged <- struct{}{}; return nil }) // no pong
		}
		p.drain()
	})
	lost := make(chan error, 1)
	c := dial(t, url, client.Options{OnDisconnect: func(err error) { lost <- err }})
	c.Retry()
	testkit.Await(t, "a ping", pinged)
	if err := testkit.Await(t, "the loss", lost); !errors.Is(err, client.ErrSilent) {
		t.Errorf("lost to %v, want silence", err)
	}
	receive(t, c, 1).Ack()
	testkit.Await(t, "the next connection", second)
}

func TestOutcomesAndErrors(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		p.next() // the post
		outcome := func(seq uint64, device string) string {
			o := wire.Outcome{OriginalID: "m1", Status: wire.StatusDelivered, DeviceID: subjects.DeviceID(device), DeliveredAt: "2025-01-31T12:00:00Z"}
			e := wire.Envelope{ID: "m1", Type: wire.TypeAck, FromDeviceID: wire.Server, Seq: seq, Payload: o.AppendPayload(nil)}
			return string(e.Append(nil))
		}
		p.send(outcome(1, "desk"), outcome(2, "watch"), outcome(1, "desk"))
		p.acks(1, 2, 1)
		p.send(string((&wire.Error{Code: wire.QueueFull, OriginalID: "m1", RetryAfter: time.Second}).Append(nil)))
		p.drain()
	})
	outcomes, told := make(chan client.Outcome, 8), make(chan *wire.Error, 1)
	c := dial(t, url, client.Options{
		OnOutcome: func(o client.Outcome) { outcomes <- o },
		OnError:   func(e *wire.Error) { told <- e },
	})
	if err := c.SendNoWait(testkit.Soon(t), wire.NewEnvelope("m1", "note", []byte(`1`))); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"desk", "watch"} {
		o := testkit.Await(t, "an outcome", outcomes)
		if o.Device != subjects.DeviceID(device) || o.Status != wire.StatusDelivered || o.ID != "m1" {
			t.Errorf("outcome %+v, want of %s", o, device)
		}
	}
	if e := testkit.Await(t, "the error", told); !errors.Is(e, wire.QueueFull) || e.OriginalID != "m1" || e.RetryAfter != time.Second {
		t.Errorf("told %+v", e)
	}
	if len(outcomes) > 0 {
		t.Error("an outcome came twice")
	}
}

func TestMessagesInTheFrameOfTheRegistration(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		c := wire.Challenge{Nonce: "n"}
		p.send("[" + string(c.Append(nil, "s")) + "]")
		p.next()
		r := wire.Registered{SessionID: "s"}
		p.send("[" + string(r.Append(nil)) + "," + note(1) + "]")
		p.acks(1)
		p.drain()
	})
	c := dial(t, url, client.Options{Batch: true})
	receive(t, c, 1).Ack()
}

func TestData(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		payload, encoding, want string
		ok                      bool
	}{
		{`{"a":1}`, "", `{"a":1}`, true},
		{`"AAEC"`, wire.EncodingBase64, "\x00\x01\x02", true},
		{`"?"`, wire.EncodingBase64, "", false},
		{`7`, wire.EncodingBase64, "", false},
	} {
		m := client.Message{Envelope: wire.Envelope{Payload: []byte(test.payload), Encoding: test.encoding}}
		if data, err := m.Data(); (err == nil) != test.ok || test.ok && string(data) != test.want {
			t.Errorf("payload %s %s: %q, %v", test.payload, test.encoding, data, err)
		}
	}
}

func TestParseCreds(t *testing.T) {
	t.Parallel()
	path, token, public := creds(t)
	got, sign, err := client.CredentialsFile(path)(t.Context())
	if err != nil || got != token {
		t.Fatalf("token %q, %v", got, err)
	}
	sig, err := sign([]byte("x"))
	if err != nil || public.Verify([]byte("x"), sig) != nil {
		t.Errorf("signature %x, %v", sig, err)
	}
	if got, sign, err := client.ParseCreds([]byte(token + "\n")); got != token || sign != nil || err != nil {
		t.Errorf("a bare token is read as %q, %v", got, err)
	}
	for _, text := range []string{"", "hello", "-----BEGIN NATS USER JWT-----\n"} {
		if _, _, err := client.ParseCreds([]byte(text)); err == nil {
			t.Errorf("read %q", text)
		}
	}
	if _, _, err := client.CredentialsFile(path + "x")(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
}

// An edge that is slow may take a registration that the client gave up, after one
// that it made later. What replaces the client then is the client, which goes on.
func TestClientIsNotEndedByARegistrationThatItGaveUp(t *testing.T) {
	t.Parallel()
	back := make(chan struct{})
	url := serve(t, func(p *peer) {
		switch p.n {
		case 0: // no answer to the registration
			p.challenge()
			p.drain()
		case 1:
			p.registered()
			p.close(wire.CloseReplaced)
		case 2:
			p.registered()
			close(back)
			p.drain()
		}
	})
	dial(t, url, client.Options{Offline: true, HandshakeTimeout: 200 * time.Millisecond})
	testkit.Await(t, "the client is back", back)
}
