package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTypedMessagesAreSealed(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	dir := t.TempDir()
	phoneKey, desktopKey := filepath.Join(dir, "phone.xk"), filepath.Join(dir, "desktop.xk")
	desktop := c.start(t, "connect", "alice/desktop", "--seal", desktopKey)
	desktop.noted("connected as alice/desktop")
	phone := c.start(t, "connect", "alice/phone", "--seal", phoneKey)
	phone.noted("connected as alice/phone")
	phone.typed("desktop opensesame", "/key desktop", "* to all", "/accept desktop nonsense", "/key nobody")
	desktop.await(`user_message from phone \(sealed\): "opensesame"$`)
	own := regexp.MustCompile(`this device is sealed to (X\w+)`).FindStringSubmatch(desktop.stderr())
	if own == nil {
		t.Fatalf("the desktop does not show its key: %s", desktop.stderr())
	}
	phone.noted("desktop is sealed to " + own[1])
	phone.noted("a sealed message is for one device")
	phone.noted("is no public curve key")
	phone.noted("DEVICE_NOT_FOUND")
	if status := desktop.stop(); status != exitOK {
		t.Errorf("ended with status %d: %s", status, desktop.stderr())
	}
	if err := os.Remove(desktopKey); err != nil {
		t.Fatal(err)
	}
	desktop = c.start(t, "connect", "alice/desktop", "--seal", desktopKey)
	desktop.noted("connected as alice/desktop")
	phone.typed("desktop again")
	phone.noted("the key of desktop has changed")
	accept := regexp.MustCompile(`/accept desktop X\w+`).FindString(phone.stderr())
	phone.typed(accept, "desktop again")
	desktop.await(`user_message from phone \(sealed\): "again"$`)
}

func TestSealNeedsAKeyThatCanBeRead(t *testing.T) {
	t.Parallel()
	i := serve(t)
	path := filepath.Join(t.TempDir(), "phone.xk")
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := i.console().run(t, "connect", "alice/phone", "--seal", path)
	if got.status != exitFailed || !strings.Contains(got.err, "--seal") || !strings.Contains(got.err, "no seed of a curve key") {
		t.Errorf("status %d: %s", got.status, got.err)
	}
}
