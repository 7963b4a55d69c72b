package subjects_test

import (
	"fmt"

	"github.com/rccs-io/rccs/subjects"
)

// Where a service publishes a message that a device's inbox keeps.
func ExampleInbox() {
	a, err := subjects.ParseAddress("alice@example.com/phone")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(subjects.Inbox(a.Key(), subjects.Normal))
	// Output: rccs.inbox.alice%40example%2Ecom.phone.normal
}

// Where a service publishes a message for one of a user's desktops, or for all
// that can show a file.
func ExampleRoute() {
	fmt.Println(subjects.Route("alice", subjects.Selector{DeviceType: "desktop", Any: true}))
	fmt.Println(subjects.Route("alice", subjects.Selector{Capability: "supportsFileSync"}))
	// Output:
	// rccs.route.alice.any.desktop
	// rccs.route.alice.cap.supportsFileSync
}

// What a service learns from the subject of a device's message to it.
func ExampleParseUp() {
	key, typ, ok := subjects.ParseUp("rccs.up.alice.phone.order")
	fmt.Println(key, typ, ok)
	// Output: alice.phone order true
}

// The filter with which a service follows the events of all devices of a user.
func ExampleScope_Events() {
	fmt.Println(subjects.Scope{User: "alice"}.Events())
	// Output: rccs.event.alice.*.*
}
