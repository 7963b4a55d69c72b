// Command gopeer is a device of the Go SDK for the tests of the JavaScript one: it opens what is sealed to it, and seals
// what it read back to its sender. It prints a line when it is connected.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, creds, key string) error {
	seal, err := client.SealKeyFile(key)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, url, &client.Options{Credentials: client.CredentialsFile(creds), Seal: &client.Seal{Key: seal}})
	if err != nil {
		return err
	}
	fmt.Println("connected")
	c.Handle("secret", func(ctx context.Context, m *client.Message) error {
		back, err := client.Compose("answer", map[string]any{"sealed": m.Sealed, "read": json.RawMessage(m.Payload)}, client.To(subjects.DeviceID(m.FromDeviceID)))
		if err != nil {
			return err
		}
		_, err = c.SendSealed(ctx, back)
		return err
	})
	return c.Serve(ctx)
}
