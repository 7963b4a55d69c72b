package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
)

// sealing adds the key of --seal to the options of the connection.
func (t *terminal) sealing(opts *client.Options) error {
	if t.flags.seal == "" {
		return nil
	}
	key, err := client.SealKeyFile(t.flags.seal)
	if err != nil {
		return fmt.Errorf("--seal: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return fmt.Errorf("--seal: %w", err)
	}
	t.env.note("this device is sealed to %s", public)
	opts.Seal = &client.Seal{Key: key, Pins: t.flags.seal + ".pins"}
	opts.OnDiscard = func(m *client.Message, why error) {
		t.env.note("not shown: %s from %s: %v", m.Type, m.FromDeviceID, why)
	}
	return nil
}

// showKey shows the key of another device, for people to compare.
func (t *terminal) showKey(ctx context.Context, c *client.Client, device string) error {
	key, err := c.SealKey(ctx, subjects.DeviceID(device))
	if err != nil {
		return sealHint(err)
	}
	t.env.note("%s is sealed to %s", device, key)
	return nil
}

// acceptKey pins a key that people have compared.
func (t *terminal) acceptKey(c *client.Client, rest string) error {
	device, key, _ := strings.Cut(rest, " ")
	if err := c.AcceptSealKey(subjects.DeviceID(device), strings.TrimSpace(key)); err != nil {
		return err
	}
	t.env.note("%s is sealed to %s from now on", device, strings.TrimSpace(key))
	return nil
}

// sealHint says what to type when a key has changed.
func sealHint(err error) error {
	if changed, ok := errors.AsType[*client.SealChangedError](err); ok {
		return fmt.Errorf("the key of %s has changed from %s: compare it with the device's own, then type /accept %s %s",
			changed.Device, changed.Pinned, changed.Device, changed.Now)
	}
	return err
}
