package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestProtocol_5_AcceptedNamesTheRecipientAndItsSeq(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	sender, receiver := connect(t, s, u+"/sender", nil), connect(t, s, u+"/receiver", nil)
	for i := range 20 {
		a := sender.give("receiver", i, object{"priority": i % 4})
		if e := receiver.message(); e.Seq != a.Recipients[0].Seq || a.Duplicate {
			t.Errorf("accepted as %+v, delivered as %d", a, e.Seq)
		}
	}
}

func TestProtocol_5_DeviceNotFoundIsAlwaysTold(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for _, wants := range []bool{true, false} {
		d.send(object{"id": "m", "type": "note", "toDeviceId": "never-seen", "payload": 1, "requiresAck": wants})
		if f := d.wantError("DEVICE_NOT_FOUND"); f.OriginalMessageID != "m" {
			t.Errorf("the error is about %q", f.OriginalMessageID)
		}
	}
	d.beat()
}

func TestProtocol_5_OfflineDeviceIsAFineTarget(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/away")
	sender := connect(t, s, u+"/sender", nil)
	sender.give("away", "for later", nil)
	away := connect(t, s, u+"/away", nil)
	if e := away.message(); string(e.Payload) != `"for later"` || e.Redelivered {
		t.Errorf("got %s", e.raw)
	}
}

func TestProtocol_5_OrderWithinALane(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	const senders, count = 4, 250
	receiver := connect(t, s, u+"/receiver", nil)
	for n := range senders {
		d := connect(t, s, fmt.Sprintf("%s/s%d", u, n), nil)
		go func() {
			for i := range count {
				_ = d.post(fmt.Sprintf(`{"id":"%d","type":"note","toDeviceId":"receiver","payload":%d}`, i, i))
			}
		}()
	}
	next, last := map[string]int{}, uint64(0)
	for range senders * count {
		e := receiver.message()
		if want := fmt.Sprint(next[e.FromDeviceID]); string(e.Payload) != want {
			t.Fatalf("from %s came %s, want %s", e.FromDeviceID, e.Payload, want)
		}
		if e.Seq <= last {
			t.Fatalf("seq %d came after %d", e.Seq, last)
		}
		next[e.FromDeviceID]++
		last = e.Seq
		receiver.ack(e.Seq)
	}
}

func TestProtocol_5_HigherLaneFirst(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/away")
	sender := connect(t, s, u+"/sender", nil)
	for i := range 12 {
		sender.give("away", i, object{"priority": i % 4})
	}
	service := s.service(t, "lanes")
	for _, lane := range []string{"low", "critical", "normal", "high"} {
		service.publish(inbox(u, "away", lane), `"`+lane+`"`)
	}
	s.caughtUp(t, u)
	want := []string{"3", "7", "11", `"critical"`, "2", "6", "10", `"high"`, "1", "5", "9", `"normal"`, "0", "4", "8", `"low"`}
	for _, window := range []int{1, 5, 256} { // none is acknowledged for good before the last
		away := connect(t, s, u+"/away", object{"window": window})
		for i, payload := range want {
			if window < len(want) && i == window {
				break
			}
			if e := away.message(); string(e.Payload) != payload {
				t.Fatalf("window %d: message %d is %s, want %s", window, i, e.Payload, payload)
			}
		}
		away.close()
	}
}

func TestProtocol_5_HigherLaneOvertakesWhatWaitsForTheWindow(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	sender, receiver := connect(t, s, u+"/sender", nil), connect(t, s, u+"/receiver", object{"window": 1})
	sender.give("receiver", 0, object{"priority": 0})
	first := receiver.message() // fills the window, so that what follows waits
	for i := 1; i < 4; i++ {
		sender.give("receiver", i, object{"priority": i})
	}
	s.caughtUp(t, u)
	receiver.ack(first.Seq)
	for _, want := range []string{"3", "2", "1"} {
		e := receiver.message()
		if string(e.Payload) != want {
			t.Fatalf("got %s, want %s", e.Payload, want)
		}
		receiver.ack(e.Seq)
	}
}

// quiet is how long nothing must come where nothing may come.
const quiet = 300 * time.Millisecond

func TestProtocol_5_WindowStopsAndResumes(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	for name, waiting := range map[string]bool{"live": false, "stored": true} {
		s.register(t, u+"/"+name)
		sender := connect(t, s, u+"/sender", nil)
		var d *device
		if !waiting {
			d = connect(t, s, u+"/"+name, object{"window": 3})
		}
		for i := range 10 {
			sender.give(name, i, nil)
		}
		if waiting {
			d = connect(t, s, u+"/"+name, object{"window": 3})
		}
		seqs := []uint64{d.message().Seq, d.message().Seq, d.message().Seq}
		d.silent(quiet)
		d.beat() // the window holds back messages only
		d.acknowledge(object{"seq": seqs[1]})
		seqs = append(seqs, d.message().Seq)
		d.silent(quiet)
		d.acknowledge(object{"seqs": seqs[2:]})
		seqs = append(seqs, d.message().Seq, d.message().Seq)
		d.silent(quiet)
		d.acknowledge(object{"upTo": seqs[5]})
		for range 3 {
			seqs = append(seqs, d.message().Seq)
		}
		d.silent(quiet)
		if !slices.IsSorted(seqs) {
			t.Errorf("%s: seqs %d", name, seqs)
		}
		d.acknowledge(object{"upTo": seqs[8]})
		d.ack(d.message().Seq)
		d.leave()
		if n := connect(t, s, u+"/"+name, nil).session.Pending; n != 0 {
			t.Errorf("%s: %d pending at the end", name, n)
		}
	}
}

func TestProtocol_5_UpToIsWhatThisConnectionWasSent(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/d")
	sender := connect(t, s, u+"/sender", nil)
	sender.give("d", "low", object{"priority": 0})
	sender.give("d", "critical", object{"priority": 3})
	s.caughtUp(t, u)
	d := connect(t, s, u+"/d", object{"window": 1})
	e := d.message()
	if string(e.Payload) != `"critical"` {
		t.Fatalf("got %s first", e.raw)
	}
	d.acknowledge(object{"upTo": e.Seq + 1000})
	if e := d.message(); string(e.Payload) != `"low"` || e.Redelivered {
		t.Errorf("after upTo past a message that was not sent came %s", e.raw)
	}
}

func TestProtocol_5_AcknowledgedIsNeverSentAgain(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/d")
	sender := connect(t, s, u+"/sender", nil)
	for i := range 10 {
		sender.give("d", i, object{"priority": []int{1, 2}[i%2]})
	}
	s.caughtUp(t, u)
	seqs := map[string]uint64{}
	d := connect(t, s, u+"/d", object{"window": 6}) // high 1 3 5 7 9, normal 0
	for range 6 {
		e := d.message()
		if e.Redelivered {
			t.Errorf("the first time is called a redelivery: %s", e.raw)
		}
		seqs[string(e.Payload)] = e.Seq
	}
	d.ack(seqs["3"], seqs["7"])
	d.message() // 2
	d.message() // 4: so the ack was heard
	d.close()

	d = connect(t, s, u+"/d", object{"window": 100})
	for _, want := range []struct {
		payload string
		again   bool
	}{{"1", true}, {"5", true}, {"9", true}, {"0", true}, {"2", true}, {"4", true}, {"6", false}, {"8", false}} {
		e := d.message()
		if string(e.Payload) != want.payload || e.Redelivered != want.again {
			t.Errorf("want %+v, got %s", want, e.raw)
		}
		d.ack(e.Seq)
	}
	d.silent(quiet)
	d.leave()
	connect(t, s, u+"/d", nil).silent(quiet)
}

func TestProtocol_5_AcksOfWhatIsNotThereAreHarmless(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d, other := connect(t, s, u+"/d", object{"window": 2}), connect(t, s, u+"/other", nil)
	d.give("other", "for the other", nil)
	e := other.message()
	d.ack(e.Seq, e.Seq+1, 1<<62)
	d.ack(e.Seq)
	d.acknowledge(object{"seqs": []uint64{}})
	other.close()
	other = connect(t, s, u+"/other", nil)
	if again := other.message(); again.Seq != e.Seq || !again.Redelivered {
		t.Errorf("one device acknowledged another's message: got %s", again.raw)
	}
	d.give("d", "own", nil)
	seq := d.message().Seq
	d.ack(seq, seq, seq)
	d.ack(seq)
	for i := range 3 {
		d.give("d", i, nil)
	}
	d.message()
	d.message()
	d.silent(quiet) // acknowledging twice opens no room for two
}

func TestProtocol_5_AutoModeNeedsNoAcks(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", object{"ackMode": "auto", "window": 2})
	for i := range 50 {
		d.give("d", i, nil)
		if e := d.message(); string(e.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d came as %s", i, e.raw)
		}
	}
	d.leave()
	connect(t, s, u+"/d", nil).silent(quiet)
}

func TestProtocol_5_RedeliveryAfterTakeover(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	for i := range 5 {
		d.give("d", i, nil)
	}
	for i := range 5 {
		if e := d.message(); i == 2 {
			d.ack(e.Seq)
			d.beat()
		}
	}
	second := connect(t, s, u+"/d", nil)
	for _, want := range []string{"0", "1", "3", "4"} {
		if e := second.message(); string(e.Payload) != want || !e.Redelivered {
			t.Errorf("want %s again, got %s", want, e.raw)
		}
	}
	second.silent(quiet)
}

func TestProtocol_4_HeartbeatIsAnswered(t *testing.T) {
	t.Parallel()
	d := connect(t, use(t), user(t)+"/d", nil)
	d.beat()
	d.send(object{"type": "heartbeat"}) // an id is needed by application messages only
	d.wantAck()
}

func TestProtocol_4_UnregisterEndsTheSession(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	d.send([]object{
		{"id": "m", "type": "note", "toDeviceId": "d", "payload": 1, "requiresAck": true},
		{"id": "bye", "type": "device_unregister", "payload": object{}},
	})
	got := map[string]bool{}
	for {
		e, err := d.receive()
		if err != nil {
			if !closedWith(err, 1000) {
				t.Errorf("want close 1000, got %v", err)
			}
			break
		}
		if e.durable() {
			continue // the message itself may come before the end
		}
		var a answer
		decode(t, e.Payload, &a)
		got[a.OriginalMessageID] = true
	}
	if !got["m"] || !got["bye"] {
		t.Errorf("answered were %v, want the message before the end too", got)
	}
	if e := connect(t, s, u+"/d", nil).message(); e.ID != "m" {
		t.Errorf("got %s", e.raw)
	}
}
