package envelope_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// However often a form was used, its message is the one that Inbox makes.
func TestFormMakesWhatInboxDoes(t *testing.T) {
	t.Parallel()
	var f envelope.Form
	from := envelope.Sender{Key: subjects.Address{User: "alice", Device: "my phone"}.Key(), Device: "my phone"}
	for _, e := range []wire.Envelope{
		{ID: "1", Type: "user_message", Payload: []byte(`{"a":1}`), Priority: wire.Normal},
		{
			ID: "2", Type: "x", Payload: []byte(`"longer than the one before it"`), Priority: 3, TTLMs: 5, RequiresAck: true, CollapseKey: "k",
			CorrelationID: "c", Traceparent: "t", Timestamp: wire.FormatTime(time.Unix(1, 0)),
		},
		{ID: "3", Type: "x", Payload: []byte(`1`)},
	} {
		for _, device := range []subjects.DeviceID{"desktop", "d.e s*k>top"} {
			to := subjects.Address{User: "alice", Device: device}
			want := envelope.Inbox(&e, from, to.Key(), 0, e.Payload)
			if key := f.Address(&e, from, to); key != to.Key() {
				t.Errorf("the key is %s, want %s", key, to.Key())
			}
			if got := f.Inbox(&e, from); !reflect.DeepEqual(got, want) {
				t.Errorf("made %+v, want %+v", got, want)
			}
			f.Reset(16)
		}
	}
}
