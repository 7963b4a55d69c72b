package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/wire"
)

// Two devices of one user. The phone sends, the desktop has a handler for the
// type. A handler that returns nil acknowledges the message.
func Example() {
	// Elsewhere these are the URL of your edge, and files made by
	// 'rccs creds device alice/phone > phone.creds'.
	ctx, url, creds, stop := exampleInstallation("alice/phone", "alice/desktop")
	defer stop()

	phone, err := client.Dial(ctx, url, &client.Options{Credentials: client.CredentialsFile(creds["alice/phone"])})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = phone.Close() }()
	desktop, err := client.Dial(ctx, url, &client.Options{Credentials: client.CredentialsFile(creds["alice/desktop"])})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = desktop.Close() }()

	type approval struct {
		Deploy string `json:"deploy"`
	}
	accepted, err := phone.SendJSON(ctx, "approval", approval{Deploy: "v1.2"}, client.To("desktop"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("stored for", accepted.Recipients[0].Device)

	ctx, done := context.WithCancel(ctx)
	client.HandleJSON(desktop, "approval", func(_ context.Context, a approval, m *client.Message) error {
		fmt.Println("deploy", a.Deploy, "says", m.From())
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

// A device says what it is, and hears when its connection comes and goes.
func ExampleDial() {
	ctx, url, creds, stop := exampleInstallation("bob/phone")
	defer stop()

	c, err := client.Dial(ctx, url, &client.Options{
		Credentials:  client.CredentialsFile(creds["bob/phone"]),
		Type:         "mobile",
		Capabilities: map[string]any{"supportsNotifications": true},
		OnConnect:    func(s client.Session) { fmt.Println("connected as", s.Device) },
		OnDisconnect: func(err error) { fmt.Println("connection lost, trying again:", err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	fmt.Println(c.Session().Pending, "messages wait")
	// Unordered output:
	// connected as phone
	// 0 messages wait
}

// One handler for every type that has none of its own.
func ExampleClient_Handle() {
	ctx, url, stop := exampleNode()
	defer stop()
	c := exampleDevice(ctx, url, "carol/phone")
	defer func() { _ = c.Close() }()

	ctx, done := context.WithCancel(ctx)
	if _, err := c.SendJSON(ctx, "note", "to myself", client.To("phone")); err != nil {
		fmt.Println(err)
	}
	c.Handle("", func(_ context.Context, m *client.Message) error {
		fmt.Println(m.Type, string(m.Payload))
		done()
		return nil
	})
	fmt.Println(c.Serve(ctx))
	// Output:
	// note "to myself"
	// context canceled
}

// A message that the device can never deal with is refused, and its sender is
// told.
func ExampleReject() {
	ctx, url, stop := exampleNode()
	defer stop()
	phone, desktop := exampleDevice(ctx, url, "ken/phone"), exampleDevice(ctx, url, "ken/desktop")
	defer func() { _, _ = phone.Close(), desktop.Close() }()

	desktop.Handle("picture", func(context.Context, *client.Message) error {
		return client.Reject("this device has no screen")
	})
	go func() { _ = desktop.Serve(ctx) }()

	e, err := client.Compose("picture", "…", client.To("desktop"))
	if err != nil {
		fmt.Println(err)
		return
	}
	tracked, err := phone.Track(ctx, e)
	if err != nil {
		fmt.Println(err)
		return
	}
	outcome, err := tracked.Next(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(outcome.Status, "by", outcome.Device, "because", outcome.Reason)
	// Output: rejected by desktop because this device has no screen
}

// What is refused has a code.
func ExampleClient_Send() {
	ctx, url, stop := exampleNode()
	defer stop()
	c := exampleDevice(ctx, url, "dave/phone")
	defer func() { _ = c.Close() }()

	e, err := client.Compose("user_message", "shall I deploy?", client.To("typewriter"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Send(ctx, e)
	fmt.Println(errors.Is(err, wire.DeviceNotFound))
	// Output: true
}

// A message that is enqueued without a connection is sent when there is one.
func ExampleClient_Enqueue() {
	ctx, url, stop := exampleNode()
	defer stop()
	sent := make(chan string)
	c, err := client.Dial(ctx, url, &client.Options{
		Credentials: exampleCredentials("erin/phone"),
		Offline:     true, // Dial does not wait for a connection
		OnSent:      func(id string, _ client.Accepted, err error) { sent <- fmt.Sprintln(id, err) },
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
	if err := c.Enqueue(e); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(<-sent)
	// Output: note-1 <nil>
}

// What becomes of a message at each of its recipients.
func ExampleClient_Track() {
	ctx, url, stop := exampleNode()
	defer stop()
	phone, desktop := exampleDevice(ctx, url, "frank/phone"), exampleDevice(ctx, url, "frank/desktop")
	defer func() { _, _ = phone.Close(), desktop.Close() }()

	e, err := client.Compose("user_message", "hello", client.WithTTL(time.Hour), client.WithCollapseKey("greeting"))
	if err != nil {
		fmt.Println(err)
		return
	}
	tracked, err := phone.Track(ctx, e)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tracked.Close()
	m, err := desktop.Receive(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Ack()
	for {
		outcome, err := tracked.Next(ctx)
		if err != nil {
			fmt.Println(err) // io.EOF when all are known
			return
		}
		fmt.Println(outcome.Device, outcome.Status)
	}
	// Output:
	// desktop delivered
	// EOF
}

// A request to another device, and its answer.
func ExampleClient_Request() {
	ctx, url, stop := exampleNode()
	defer stop()
	phone, desktop := exampleDevice(ctx, url, "grace/phone"), exampleDevice(ctx, url, "grace/desktop")
	defer func() { _, _ = phone.Close(), desktop.Close() }()

	desktop.HandleRequest("open", func(_ context.Context, r *client.Request) (any, error) {
		var params struct{ File string }
		if err := r.Decode(&params); err != nil {
			return nil, err
		}
		if params.File == "" {
			return nil, &wire.Failure{Code: "NO_FILE", Message: "which file?"}
		}
		return map[string]bool{"opened": true}, nil
	})

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // told to the desktop
	defer cancel()
	result, err := phone.Request(ctx, "desktop", "open", map[string]string{"file": "main.go"})
	fmt.Println(string(result), err)

	_, err = phone.Request(ctx, "desktop", "open", nil)
	if failure, ok := errors.AsType[*wire.Failure](err); ok {
		fmt.Println(failure.Code, failure.Message)
	}
	// Output:
	// {"opened":true} <nil>
	// NO_FILE which file?
}

// A response in parts, as they are made.
func ExampleClient_RequestStream() {
	ctx, url, stop := exampleNode()
	defer stop()
	phone, desktop := exampleDevice(ctx, url, "heidi/phone"), exampleDevice(ctx, url, "heidi/desktop")
	defer func() { _, _ = phone.Close(), desktop.Close() }()

	desktop.HandleRequest("run", func(ctx context.Context, r *client.Request) (any, error) {
		for _, line := range []string{"compile", "link"} {
			if err := r.Part(line); err != nil { // nobody waits any more
				return nil, err
			}
		}
		return "done", ctx.Err()
	})

	for part, err := range phone.RequestStream(ctx, "desktop", "run", nil) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(string(part))
	}
	// Output:
	// "compile"
	// "link"
	// "done"
}

// The devices of the user, and which of them are online.
func ExampleClient_Devices() {
	ctx, url, stop := exampleNode()
	defer stop()
	phone, desktop := exampleDevice(ctx, url, "ivan/phone"), exampleDevice(ctx, url, "ivan/desktop")
	defer func() { _, _ = phone.Close(), desktop.Close() }()

	if err := desktop.SetStatus(ctx, wire.Busy, nil); err != nil {
		fmt.Println(err)
	}
	devices, err := phone.Devices(ctx)
	if err != nil {
		fmt.Println(err)
	}
	for _, d := range devices {
		fmt.Println(d.ID, d.Status)
	}
	// Unordered output:
	// desktop busy
	// phone online
}

// A topic, from its first message on.
func ExampleClient_Subscribe() {
	ctx, url, stop := exampleNode()
	defer stop()
	c := exampleDevice(ctx, url, "judy/phone")
	defer func() { _ = c.Close() }()

	if _, err := c.Publish(ctx, "builds.main", map[string]string{"state": "green"}); err != nil {
		fmt.Println(err)
		return
	}
	first := wire.Since{Kind: wire.SinceSeq}
	s, err := c.Subscribe(ctx, "builds.main", &client.SubscribeOptions{Since: first})
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
		fmt.Println(string(m.Payload))
		break
	}
	// Output: {"state":"green"}
}
