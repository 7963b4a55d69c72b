package main

import (
	"strings"
	"testing"
)

// What 'rccs dev' prints to try works as it is printed.
func TestDevIsTriedAsItSays(t *testing.T) {
	t.Parallel()
	r := console{}.start(t, "dev")
	r.await("[█▀▄]") // the QR code
	try := func(command string) []string {
		return strings.Fields(r.await(`^  \S+ (` + command + ` .*)$`)[1])
	}
	send, connect, status := try("send"), try("connect"), try("status")
	r.await("What alice/phone receives")
	console{}.succeed(t, send...)
	r.await(`notification from service.*: "hello"`)
	console{in: "phone hi there\n"}.succeed(t, append(connect, "--timeout", "2s")...)
	r.await(`user_message from desktop: "hi there"`)
	if got := (console{}).succeed(t, status...); got.out == "" {
		t.Error("no status")
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("ended with %d: %s", code, r.stderr())
	}
}

func TestASystemCredentialIsOfTheSystemAccount(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	text := c.succeed(t, "creds", "system").out
	if !strings.Contains(text, "BEGIN NATS USER JWT") {
		t.Errorf("printed %q", text)
	}
	console{}.run(t, "creds", "system", "--data", t.TempDir()).refused(t, exitFailed, "--data")
}
