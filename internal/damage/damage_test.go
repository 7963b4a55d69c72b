package damage_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/damage"
)

// Thousands of devices may find the same damage, and each stores what it has lost.
func TestRangesOfDamageThatMeetAreOne(t *testing.T) {
	t.Parallel()
	r := damage.Parse(nil)
	for from := uint64(10); from < 5000; from += 3 { // each meets the next
		r.AddRange([2]uint64{from, from + 2})
	}
	r.AddRange([2]uint64{1, 2})
	r.AddRange([2]uint64{20, 30}) // within
	if want := [][2]uint64{{1, 2}, {10, 5001}}; !slices.Equal(r.Ranges, want) {
		t.Errorf("ranges %v, want %v", r.Ranges, want)
	}
	if r.AddRange([2]uint64{3, 9}); !slices.Equal(r.Ranges, [][2]uint64{{1, 5001}}) {
		t.Errorf("ranges %v, want one", r.Ranges)
	}
}

// What others wrote stays, members that this version does not know among it. What
// explains itself by a finding of the last hour is not reported again.
func TestARecordKeepsWhatOthersWrote(t *testing.T) {
	t.Parallel()
	r := damage.Parse([]byte(`{"ranges":[[1,2]],"later":{"a":1},"found":[{"stream":"S","server":"a","files":["x"]}]}`))
	r.AddRange([2]uint64{7, 9})
	r.AddMessage(damage.Message{Seq: 7, Subject: "s"})
	for range 2 {
		if err := r.AddFinding(damage.Finding{Stream: "S", At: time.Now(), First: 7, Unreadable: true}); err != nil {
			t.Fatal(err)
		}
	}
	body, err := r.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Ranges   [][2]uint64
		Messages []damage.Message
		Later    json.RawMessage
		Found    []struct {
			Server     string
			Files      []string
			Unreadable bool
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Ranges) != 2 || len(got.Messages) != 1 || string(got.Later) != `{"a":1}` || len(got.Found) != 2 ||
		got.Found[0].Server != "a" || len(got.Found[0].Files) != 1 || !got.Found[1].Unreadable {
		t.Errorf("stored %s", body)
	}
}

// What cannot be read is replaced.
func TestARecordThatCannotBeReadIsReplaced(t *testing.T) {
	t.Parallel()
	for _, stored := range []string{"", "null", "[]", "spoilt", `{"ranges":7,"messages":"x"}`} {
		r := damage.Parse([]byte(stored))
		r.AddRange([2]uint64{1, 1})
		if body, err := r.Bytes(); err != nil || len(damage.Parse(body).Ranges) != 1 {
			t.Errorf("%q becomes %s, %v", stored, body, err)
		}
	}
}
