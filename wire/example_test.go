package wire_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// A frame holds one envelope, or an array of them. One that is wrong does not
// take the others with it.
func ExampleDecodeFrame() {
	items, err := wire.DecodeFrame(nil, []byte(`[
		{"id": "1", "type": "note", "toDeviceId": "desktop", "payload": {"text": "hello"}},
		{"id": "2", "type": "Not A Type", "payload": 1}
	]`))
	if err != nil {
		fmt.Println(err) // the whole frame is refused
		return
	}
	for _, item := range items {
		if item.Err != nil {
			fmt.Println(item.Err.OriginalID, item.Err.Code)
			continue
		}
		fmt.Printf("%s %s to %s: %s\n", item.ID, item.Type, item.ToDeviceID, item.Payload)
	}
	// Output:
	// 1 note to desktop: {"text": "hello"}
	// 2 BAD_MESSAGE
}

// What a client writes to a WebSocket.
func ExampleEnvelope_Append() {
	e := wire.NewEnvelope("1", "note", []byte(`{"text":"hello"}`))
	e.ToDeviceID, e.RequiresAck, e.TTLMs = "desktop", true, time.Minute.Milliseconds()
	fmt.Printf("%s\n", e.Append(nil))
	// Output: {"type":"note","id":"1","toDeviceId":"desktop","priority":1,"requiresAck":true,"ttlMs":60000,"payload":{"text":"hello"}}
}

// An acknowledgement of what was received.
func ExampleAck_Append() {
	a := wire.Ack{UpTo: 12}
	fmt.Printf("%s\n", a.Append(nil))
	// Output: {"type":"ack","payload":{"upTo":12}}
}

// A peer hears of an error what its code says, and nothing of what is inside.
func ExampleAsError() {
	for _, err := range []error{
		fmt.Errorf("inbox: store: %w", wire.NewError(wire.QueueFull, "the inbox of desktop is full")),
		errors.New("dial tcp 10.0.0.7: connection refused"),
	} {
		told := wire.AsError(err)
		fmt.Println(told.Code, "-", told.Text())
	}
	// Output:
	// QUEUE_FULL - the inbox of desktop is full
	// INTERNAL - something went wrong inside
}
