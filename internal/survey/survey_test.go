package survey_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/survey"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// system is a server with the streams, and a survey of it.
type system struct {
	t   *testing.T
	env *natstest.Env
	js  jetstream.JetStream
	reg *prometheus.Registry
	s   *survey.Survey
}

func begin(t *testing.T, maxTenants int) *system {
	t.Helper()
	env := natstest.Server(t)
	s := &system{t: t, env: env, js: natstest.Streams(t, env.Conn(t)), reg: prometheus.NewPedanticRegistry()}
	var err error
	s.s, err = survey.New(survey.Options{Streams: backbone.Streams(), Metrics: s.reg, Every: 20 * time.Millisecond, MaxTenants: maxTenants})
	if err != nil {
		t.Fatal(err)
	}
	s.s.Start()
	t.Cleanup(s.s.Stop)
	return s
}

func (s *system) add(name string) {
	s.t.Helper()
	if err := s.s.Add(name, s.env.Conn(s.t)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.s.Remove(name) })
}

func (s *system) store(subject, data string) {
	s.t.Helper()
	if _, err := s.js.Publish(s.t.Context(), subject, []byte(data)); err != nil {
		s.t.Fatal(err)
	}
}

// tells waits until the metrics have all of these samples.
func (s *system) tells(what string, samples ...string) {
	s.t.Helper()
	testkit.Eventually(s.t, what, func() bool {
		got := scrape(s.reg)
		for _, line := range samples {
			if !strings.Contains(got, line+"\n") {
				return false
			}
		}
		return true
	})
}

// scrape is what Prometheus would be told.
func scrape(reg *prometheus.Registry) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func key(t *testing.T, name string) subjects.Key {
	t.Helper()
	a, err := subjects.ParseAddress(name)
	if err != nil {
		t.Fatal(err)
	}
	return a.Key()
}

// What was there before the survey began counts as what comes later.
func TestWhatCursorsLeaveUnacknowledgedIsCounted(t *testing.T) {
	t.Parallel()
	s := begin(t, 0)
	phone, tab := key(t, "alice/phone"), key(t, "alice/tab")
	for range 3 {
		s.store(subjects.Inbox(phone, subjects.Normal), "1")
	}
	s.store(layout.Cursor(phone), `{"sent":[0,2,0,0],"unacked":[[],[2],[],[]],"waiting":[0,1,0,0],"upTo":3}`)
	s.add("default")
	s.tells("two of three wait for one device",
		`rccs_unacknowledged_messages{tenant="default"} 2`, `rccs_unacknowledged_devices{older_than="0s",tenant="default"} 1`)
	s.store(subjects.Inbox(tab, subjects.High), "1")
	s.store(layout.Cursor(tab), `{"sent":[0,0,0,0],"unacked":[[],[],[],[]],"waiting":[0,0,1,0],"upTo":4}`)
	s.tells("a second device", `rccs_unacknowledged_messages{tenant="default"} 3`, `rccs_unacknowledged_devices{older_than="0s",tenant="default"} 2`)
	s.store(layout.Cursor(phone), `{"sent":[0,3,0,0],"unacked":[[],[],[],[]],"upTo":4}`)
	s.tells("the first has acknowledged all", `rccs_unacknowledged_messages{tenant="default"} 1`)
	s.tells("streams are counted", `rccs_stream_messages{stream="RCCS_INBOX",tenant="default"} 4`, `rccs_stream_has_leader{stream="RCCS_INBOX",tenant="default"} 1`)
}

// Its cursor is removed, which leaves no trace to be read.
func TestADeviceThatIsForgottenOwesNothing(t *testing.T) {
	t.Parallel()
	s := begin(t, 0)
	phone := key(t, "alice/phone")
	s.store(subjects.Inbox(phone, subjects.Normal), "1")
	s.store(layout.Cursor(phone), `{"sent":[0,0,0,0],"unacked":[[],[],[],[]],"waiting":[0,1,0,0],"upTo":1}`)
	s.add("default")
	s.tells("one waits", `rccs_unacknowledged_messages{tenant="default"} 1`)
	cursors, err := s.js.Stream(t.Context(), layout.StreamCursor)
	if err == nil {
		err = cursors.Purge(t.Context(), jetstream.WithPurgeSubject(layout.Cursor(phone)))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.tells("nothing waits", `rccs_unacknowledged_messages{tenant="default"} 0`)
}

// A device that stays away would count for ever otherwise.
func TestWhatRetentionTookIsNotCounted(t *testing.T) {
	t.Parallel()
	s := begin(t, 0)
	phone := key(t, "alice/phone")
	for range 3 {
		s.store(subjects.Inbox(phone, subjects.Normal), "1")
	}
	s.store(layout.Cursor(phone), `{"sent":[0,0,0,0],"unacked":[[],[],[],[]],"waiting":[0,3,0,0],"upTo":3}`)
	s.add("default")
	s.tells("three wait", `rccs_unacknowledged_messages{tenant="default"} 3`)
	in, err := s.js.Stream(t.Context(), layout.StreamInbox)
	if err == nil {
		err = in.Purge(t.Context(), jetstream.WithPurgeSequence(3)) // what is below goes
	}
	if err != nil {
		t.Fatal(err)
	}
	s.tells("one is left", `rccs_unacknowledged_messages{tenant="default"} 1`)
	if err := in.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.tells("none is left", `rccs_unacknowledged_messages{tenant="default"} 0`)
}

func TestAStreamThatDoesNotAnswerIsTold(t *testing.T) {
	t.Parallel()
	s := begin(t, 0)
	s.add("default")
	s.tells("it was looked at", `rccs_stream_has_leader{stream="RCCS_TOPIC",tenant="default"} 1`)
	if err := s.js.DeleteStream(t.Context(), subjects.StreamTopic); err != nil {
		t.Fatal(err)
	}
	s.tells("it is gone, and the others are there",
		`rccs_stream_has_leader{stream="RCCS_TOPIC",tenant="default"} 0`, `rccs_stream_has_leader{stream="RCCS_INBOX",tenant="default"} 1`)
}

// However many tenants there are, the labels are few, and nothing is left out of
// the sums.
func TestTenantsPastTheBoundShareALabel(t *testing.T) {
	t.Parallel()
	s := begin(t, 2)
	phone := key(t, "alice/phone")
	s.store(subjects.Inbox(phone, subjects.Normal), "1")
	s.store(layout.Cursor(phone), `{"sent":[0,0,0,0],"unacked":[[],[],[],[]],"waiting":[0,1,0,0],"upTo":1}`)
	for i := range 4 { // of one account here, which the survey does not know
		s.add(fmt.Sprint("t", i))
	}
	s.tells("two tenants share a label",
		`rccs_unacknowledged_messages{tenant="t0"} 1`, `rccs_unacknowledged_messages{tenant="t1"} 1`,
		`rccs_unacknowledged_messages{tenant="(others)"} 2`, `rccs_stream_messages{stream="RCCS_INBOX",tenant="(others)"} 2`)
	s.s.Remove("t0")
	s.tells("the third has a label of its own now",
		`rccs_unacknowledged_messages{tenant="t2"} 1`, `rccs_unacknowledged_messages{tenant="(others)"} 1`)
	if got := strings.Count(scrape(s.reg), "\nrccs_unacknowledged_messages{"); got != 3 {
		t.Errorf("%d series, want 3", got)
	}
}

func TestTheSurveyGoesOnAfterTheServerWasAway(t *testing.T) {
	t.Parallel()
	s := begin(t, 0)
	if err := s.s.Add("default", s.env.Conn(t, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.s.Remove("default") })
	s.tells("it was looked at", `rccs_survey_failures_total{tenant="default"} 0`)
	s.env.Restart()
	phone := key(t, "alice/phone")
	testkit.Eventually(t, "the server stores again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.js.Publish(ctx, layout.Cursor(phone), []byte(`{"sent":[0,1,0,0],"unacked":[[],[1],[],[]]}`))
		return err == nil
	})
	s.store(subjects.Inbox(phone, subjects.Normal), "1")
	s.tells("one waits", `rccs_unacknowledged_messages{tenant="default"} 1`)
}

func BenchmarkRound(b *testing.B) {
	env := natstest.Server(b)
	js := natstest.Streams(b, env.Conn(b))
	const devices = 100_000
	for i := range devices {
		if i%1000 == 0 {
			<-js.PublishAsyncComplete()
		}
		k := subjects.Address{User: subjects.UserID(fmt.Sprint("u", i/10)), Device: subjects.DeviceID(fmt.Sprint("d", i%10))}.Key()
		if _, err := js.PublishAsync(layout.Cursor(k), fmt.Appendf(nil, `{"sent":[0,0,0,0],"unacked":[[],[],[],[]],"waiting":[0,0,0,0],"upTo":%d}`, i)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	b.ReportAllocs()
	for b.Loop() { // each reads all cursors, as the first round does
		reg := prometheus.NewRegistry()
		s, err := survey.New(survey.Options{Streams: backbone.Streams(), Metrics: reg, Every: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		s.Start()
		if err := s.Add("default", env.Conn(b)); err != nil {
			b.Fatal(err)
		}
		for strings.Contains(scrape(reg), `rccs_survey_duration_seconds{tenant="default"} 0`+"\n") {
		}
		s.Remove("default")
		s.Stop()
	}
}
