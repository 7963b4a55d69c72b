package auth_test

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
)

// A pattern that covers topics bounds them, however it is written.
func TestTopicPatternsAreComparedAsPatterns(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	v := verifier(t, ten.token(t))
	for _, c := range []struct {
		pattern       string
		news, weather bool
	}{
		{"rccs.topic.news", true, false},
		{"rccs.*.news", true, false},
		{"*.topic.news", true, false},
		{"*.*.news", true, false},
		{"rccs.topic.news.>", false, false},
		{"rccs.>", true, true},
		{">", true, true},
		{"rccs.topic.*", true, true},
		{"*.*.*", true, true},
		{"rccs.topic.news workers", false, false},
		// These say nothing of topics.
		{"rccs.signal.alice.phone", true, true},
		{"rccs.topic", true, true},
		{"other.topic.news", true, true},
		{"*.signal.>", true, true},
	} {
		id, err := v.Verify(ten.device(t, func(u *jwt.UserClaims) {
			u.Sub.Allow = jwt.StringList{c.pattern}
			u.Pub.Allow = jwt.StringList{c.pattern}
		}), time.Now())
		must(t, id, err)
		for topic, want := range map[string]bool{"rccs.topic.news": c.news, "rccs.topic.weather": c.weather} {
			if got := id.Topics.MaySubscribe(topic); got != want {
				t.Errorf("%q may subscribe to %s: %t", c.pattern, topic, got)
			}
			if got := id.Topics.MayPublish(topic); got != want {
				t.Errorf("%q may publish to %s: %t", c.pattern, topic, got)
			}
		}
	}
}
