package client_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/wire"
)

// A device that prints what arrives. Returning nil acknowledges.
func ExampleClient_Handle() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://127.0.0.1:8080", &client.Options{
		Credentials: client.CredentialsFile("phone.creds"),
		Type:        "mobile",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	err = c.Handle(ctx, func(_ context.Context, m *client.Message) error {
		fmt.Println(m.Type, string(m.Payload))
		return nil
	})
	fmt.Println(err)
}

// Send returns when the message is stored for all who get it.
func ExampleClient_Send() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://127.0.0.1:8080", &client.Options{Token: "a bearer token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	e := wire.NewEnvelope("", "user_message", []byte(`{"text":"shall I deploy?"}`))
	e.ToDeviceID = "desktop"
	e.Priority = wire.High
	accepted, err := c.Send(ctx, e)
	switch {
	case errors.Is(err, wire.DeviceNotFound):
		fmt.Println("no such device")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("stored for", len(accepted.Recipients))
	}
}
