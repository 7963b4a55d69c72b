package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// unreachedSince is how far back the doctor looks for messages that reached
// nobody.
const unreachedSince = 24 * time.Hour

// What to do about a message that reached nobody, by the reason of its event.
var unreachedFix = map[string]string{
	"noDevice":    "the service publishes to users that have no device, or none that the route fits: 'rccs devices ls USER' lists them",
	"badSubject":  "escape names in subjects: every byte but A-Z a-z 0-9 _ - as % and two upper-case hex digits",
	"badSchedule": "give what is published below rccs.later a header Nats-Schedule, '@at ' and a time, and Nats-Schedule-Target, its own rccs.due subject",
	"damaged":     "check the server's disk: see what is said of damage; send them again if they still matter",
	"tooLarge":    "see 'rccs inbox rejected'; replay it to a device that takes larger frames, or raise --max-frame-bytes",
}

// undeliverable looks for messages of services that reached nobody of late.
func (d *doctor) undeliverable(ctx context.Context, name string) error {
	type found struct {
		n    int
		last string
	}
	reasons := make(map[string]found)
	filter := subjects.Scope{}.EventsOf(subjects.EventUndeliverable)
	err := d.t.follow(ctx, subjects.StreamEvent, filter, time.Now().Add(-unreachedSince), false, nil, func(e *reader.Entry) {
		var body struct{ Reason, Subject string }
		if json.Unmarshal(e.Data, &body) == nil {
			reasons[body.Reason] = found{reasons[body.Reason].n + 1, body.Subject}
		}
	})
	if err != nil {
		return err
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		f := reasons[reason]
		fix := unreachedFix[reason]
		if fix == "" {
			fix = "see the events"
		}
		d.note(name, LevelWarn, fmt.Sprintf("messages of the last day that reached nobody, %s: %d, the last on %s", reason, f.n, f.last), fix)
	}
	return nil
}
