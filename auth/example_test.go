package auth_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

// A token is issued with the keys of an installation, and checked with the public
// part of them.
func ExampleKeystore_IssueDevice() {
	dir, err := os.MkdirTemp("", "rccs-auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys, err := auth.OpenKeystore(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	phone := subjects.Address{User: "alice", Device: "phone"}
	cred, err := keys.IssueDevice(phone, auth.DeviceOptions{Type: "mobile", Bearer: true, Expires: time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := auth.NewVerifier(keys.Account().JWT)
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := verifier.Verify(cred.JWT, time.Now())
	fmt.Println(who.Address.User, who.Address.Device, who.Type, err)
	_, err = verifier.Verify(cred.JWT, time.Now().Add(2*time.Hour))
	fmt.Println(err)
	fmt.Println(cred) // the secrets are not shown
	// Output:
	// alice phone mobile <nil>
	// the credential has expired
	// [credential]
}

// A service connects to NATS with its credential, and puts a message into an
// inbox.
func ExampleCredential_Option() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "rccs-auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	n, err := node.New(node.Options{Data: dir, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Config: rccs.DefaultConfig()})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := n.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = n.Stop(ctx) }()
	cred, err := n.Keys().IssueService("billing", auth.ServiceOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	nc, err := nats.Connect(n.NATSURL(), cred.Option())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		fmt.Println(err)
		return
	}
	phone := subjects.Address{User: "alice", Device: "phone"}
	stored, err := js.Publish(subjects.Inbox(phone.Key(), subjects.High), []byte(`{"text":"your invoice"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stored.Stream)
	// Output: RCCS_INBOX
}
