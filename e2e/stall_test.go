package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallBuffer is a receive buffer that fills soon and is still quick on
// loopback. Much smaller ones wait for delayed TCP acknowledgements.
const smallBuffer = 64 << 10

// A device that stops reading costs its neighbours nothing, and loses nothing.
func TestFault_StalledReaderHarmsNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	const heavy, big = 400, 30_000 // 12 MB: more than all buffers on the way
	stalled := connectBy(t, s, u+"/stalled", dialing{readBuffer: smallBuffer}, object{"window": heavy})
	sender := connect(t, s, u+"/sender", nil)
	body := strings.Repeat("x", big)
	for i := range heavy {
		sender.give("stalled", fmt.Sprint(i, " ", body), nil)
	}
	neighbour := connect(t, s, u+"/neighbour", nil)
	var delays []time.Duration
	for i := range 300 {
		begin := time.Now()
		sender.give("neighbour", i, nil)
		neighbour.ack(neighbour.message().Seq) // fails when it waits for the one that does not read
		delays = append(delays, time.Since(begin))
	}
	slices.Sort(delays)
	t.Logf("a neighbour's messages beside a stalled device: median %v, worst %v", delays[len(delays)/2], delays[len(delays)-1])
	stalled.close()
	wantHeavy(t, connect(t, s, u+"/stalled", object{"window": 64}), heavy)
}

// wantHeavy reads and acknowledges all of it.
func wantHeavy(t *testing.T, d *device, count int) {
	t.Helper()
	for i := range count {
		e := d.message()
		if want := fmt.Sprintf(`"%d `, i); !strings.HasPrefix(string(e.Payload), want) {
			t.Fatalf("message %d is %.20s", i, e.Payload)
		}
		d.ack(e.Seq)
	}
}

// A device that reads again after a while goes on where it was, on the same
// connection.
func TestFault_SlowReaderGoesOn(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	// Just more than all buffers on the way: who takes nothing for 30 s loses the
	// connection, and a starved machine takes that long to store twice as many.
	const heavy, big = 10, 600_000
	slow := connectBy(t, s, u+"/slow", dialing{readBuffer: smallBuffer}, object{"window": heavy})
	sender := connect(t, s, u+"/sender", nil)
	body := strings.Repeat("x", big)
	for i := range heavy {
		sender.give("slow", fmt.Sprint(i, " ", body), nil)
	}
	wantHeavy(t, slow, heavy)
	slow.beat()
}

// A sender that never reads its answers meets back-pressure, not the end of the
// connection, and every message has its answer when it reads at last.
func TestFault_SenderThatDoesNotReadItsAnswers(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	const count = 14_000 // with ids so long that the answers are 5 MB: more than a socket holds
	pad := strings.Repeat("p", 120)
	receiver := connect(t, s, u+"/receiver", object{"ackMode": "auto", "batch": true})
	sender := connectBy(t, s, u+"/sender", dialing{readBuffer: smallBuffer}, nil)
	came := make(chan error, 1)
	go func() { came <- receiver.wantNumbers(count) }() // it reads all the time: its inbox has room for 10,000
	wrote := make(chan error, 1)
	progress := make(chan int, count)
	go func() {
		for i := range count {
			err := sender.post(fmt.Sprintf(`{"id":"%s%d","type":"note","toDeviceId":"receiver","payload":%d,"requiresAck":true}`, pad, i, i))
			if err != nil {
				wrote <- err
				return
			}
			progress <- i
		}
		wrote <- nil
	}()
	for range 1000 { // so many go through before any answer is read
		<-progress
	}
	answered := map[string]bool{}
	for len(answered) < count {
		a := sender.wantAck()
		if a.Status != "accepted" || answered[a.OriginalMessageID] {
			t.Fatalf("answer %+v", a)
		}
		answered[a.OriginalMessageID] = true
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := <-came; err != nil {
		t.Fatal(err)
	}
}

// wantNumbers reads messages with the payloads 0, 1, 2 ...
func (d *device) wantNumbers(count int) error {
	for i := range count {
		e, err := d.receive()
		if err != nil {
			return err
		}
		if !e.durable() || string(e.Payload) != fmt.Sprint(i) {
			return fmt.Errorf("message %d came as %s", i, e.raw)
		}
	}
	return nil
}
