package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/wire"
)

// A device that sends, and one that has a handler for each type. A handler that
// returns nil acknowledges.
func Example() {
	ctx, url, stop := exampleNode()
	defer stop()
	desktop, err := client.Dial(ctx, url, &client.Options{Credentials: exampleCredentials("alice/desktop")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = desktop.Close() }()
	phone, err := client.Dial(ctx, url, &client.Options{Credentials: exampleCredentials("alice/phone")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = phone.Close() }()

	type approval struct {
		Deploy string `json:"deploy"`
	}
	accepted, err := phone.SendJSON(ctx, "approval", approval{Deploy: "v1.2"}, client.To("desktop"), client.Priority(wire.High))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("stored for", accepted.Recipients[0].DeviceID)

	ctx, done := context.WithCancel(ctx)
	client.HandleJSON(desktop, "approval", func(_ context.Context, a approval, m *client.Message) error {
		fmt.Println("deploy", a.Deploy, "says", m.FromDeviceID)
		done()
		return nil
	})
	err = desktop.Serve(ctx)
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// stored for desktop
	// deploy v1.2 says phone
	// true
}

// One handler for all that comes.
func ExampleClient_Handle() {
	ctx, c, stop := exampleDevice("alice/phone")
	defer stop()
	ctx, done := context.WithCancel(ctx)
	if _, err := c.SendJSON(ctx, "note", "to myself", client.To("phone")); err != nil {
		fmt.Println(err)
	}
	err := c.Handle(ctx, func(_ context.Context, m *client.Message) error {
		fmt.Println(m.Type, string(m.Payload))
		done()
		return nil
	})
	fmt.Println(err)
	// Output:
	// note "to myself"
	// context canceled
}

// What is refused has a code.
func ExampleClient_Send() {
	ctx, c, stop := exampleDevice("alice/phone")
	defer stop()
	e := wire.NewEnvelope("", "user_message", []byte(`{"text":"shall I deploy?"}`))
	e.ToDeviceID = "typewriter"
	_, err := c.Send(ctx, e)
	fmt.Println(errors.Is(err, wire.DeviceNotFound))
	// Output: true
}

// A message that was queued is sent when that is possible.
func ExampleClient_Queue() {
	ctx, url, stop := exampleNode()
	defer stop()
	sent := make(chan string)
	c, err := client.Dial(ctx, url, &client.Options{
		Credentials: exampleCredentials("alice/phone"),
		Offline:     true, // Dial does not wait for a connection
		OnSent:      func(id string, _ wire.Accepted, err error) { sent <- fmt.Sprintln(id, err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	e, err := client.Compose("note", "later", client.To("phone"), client.WithID("note-1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Queue(e); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(<-sent)
	// Output: note-1 <nil>
}

// What becomes of a message at each of its recipients.
func ExampleClient_Track() {
	ctx, c, stop := exampleDevice("alice/phone")
	defer stop()
	e, err := client.Compose("user_message", "hello", client.TTL(time.Hour), client.Collapse("greeting"))
	if err != nil {
		fmt.Println(err)
		return
	}
	tracked, err := c.Track(ctx, e)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tracked.Close()
	for {
		outcome, err := tracked.Next(ctx)
		if err != nil {
			fmt.Println(err) // io.EOF when all are known
			return
		}
		fmt.Println(outcome.DeviceID, outcome.Status)
	}
}

// A request to another device, and its answer.
func ExampleClient_Request() {
	ctx, c, stop := exampleDevice("alice/phone")
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	result, err := c.Request(ctx, "desktop", "open", map[string]string{"file": "main.go"})
	switch {
	case errors.Is(err, wire.DeviceOffline):
		fmt.Println("the desktop is away")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println(string(result))
	}
}

// A response in parts, as they are made.
func ExampleClient_RequestStream() {
	ctx, c, stop := exampleDevice("alice/phone")
	defer stop()
	for part, err := range c.RequestStream(ctx, "desktop", "run", map[string]string{"command": "make"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(string(part))
	}
}

// A device that answers requests, one of them in parts.
func ExampleClient_HandleRequest() {
	ctx, c, stop := exampleDevice("alice/desktop")
	defer stop()
	c.HandleRequest("open", func(_ context.Context, r *client.Request) (any, error) {
		var params struct{ File string }
		if err := r.Decode(&params); err != nil {
			return nil, err
		}
		if params.File == "" {
			return nil, &wire.Failure{Code: "NO_FILE", Message: "which file?"}
		}
		return map[string]bool{"opened": true}, nil
	})
	c.HandleRequest("count", func(ctx context.Context, r *client.Request) (any, error) {
		for n := range 3 {
			if err := r.Part(n); err != nil { // nobody waits any more
				return nil, err
			}
		}
		return nil, ctx.Err()
	})
	_ = c.Serve(ctx)
}

// A topic, from the last message on.
func ExampleClient_Subscribe() {
	ctx, c, stop := exampleDevice("alice/phone")
	defer stop()
	s, err := c.Subscribe(ctx, "builds.main", &client.SubscribeOptions{Since: wire.Since{Kind: wire.SinceLast}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := range s.Messages(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(m.Seq, string(m.Payload))
	}
}
