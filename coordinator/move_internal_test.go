package coordinator

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/send"
)

// A device is not made final while a message of its task waits, or has come and was
// looked at by nobody: edges would store the next one before it.
func TestATaskIsNotMovedBeforeAMessageThatHasCome(t *testing.T) {
	t.Parallel()
	for name, come := range map[string]func(*queue, *routed){
		"it waits":         func(q *queue, m *routed) { q.waiting = append(q.waiting, m) },
		"no worker has it": func(q *queue, m *routed) { q.fresh.add(m) },
	} {
		r := &router{reader: new(reader.Reader), users: make(map[string]*queue)} // it can store nothing
		q := r.queueLocked("alice")
		task := name
		q.moves[task] = &move{entry: send.Task{Next: "desk"}, last: time.Now().Add(-time.Hour)}
		come(q, &routed{seq: 1, task: task})
		r.finishMoves(q)
		if q.moves[task] == nil || q.next.IsZero() {
			t.Errorf("%s: the task is moved, or not looked at again", name)
		}
		q.timer.Stop()
	}
}
