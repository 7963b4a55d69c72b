package auth

import (
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/subjects"
)

// Topics says which topics a credential may be used for. The zero value allows
// all of the tenant. What a credential's permissions deny is denied; and if
// what they allow names subjects of topics, nothing beyond is allowed. The
// other subjects that a device's credential lists say nothing of topics.
type Topics struct {
	publish, subscribe *rules
}

// rules are patterns of NATS subjects.
type rules struct {
	allow, deny []string
}

// MayPublish reports whether the subject of a topic may be published to.
func (t Topics) MayPublish(subject string) bool { return t.publish.allows(subject) }

// MaySubscribe reports whether the subject of a topic may be listened to.
func (t Topics) MaySubscribe(subject string) bool { return t.subscribe.allows(subject) }

func (r *rules) allows(subject string) bool {
	if r == nil {
		return true
	}
	is := func(pattern string) bool { return matches(pattern, subject) }
	return !slices.ContainsFunc(r.deny, is) && (len(r.allow) == 0 || slices.ContainsFunc(r.allow, is))
}

func newTopics(claims *jwt.UserClaims) Topics {
	return Topics{publish: topicRules(&claims.Pub), subscribe: topicRules(&claims.Sub)}
}

// topicRules are what a credential's permissions say of topics; nil when that
// is nothing.
func topicRules(p *jwt.Permission) *rules {
	r := rules{deny: p.Deny}
	if slices.ContainsFunc(p.Allow, namesTopics) {
		r.allow = p.Allow
	}
	if len(r.allow) == 0 && len(r.deny) == 0 {
		return nil
	}
	return &r
}

// namesTopics reports whether a pattern covers any subject of a topic, however
// it is written: rccs.*.news does. A queue group may stand behind a space.
func namesTopics(pattern string) bool {
	pattern, _, _ = strings.Cut(pattern, " ")
	topics := strings.Split(subjects.AllTopics(), ".")
	for i, token := range strings.Split(pattern, ".") {
		if token == ">" || i == len(topics)-1 {
			return true
		}
		if token != "*" && token != topics[i] {
			return false
		}
	}
	return false
}

// matches reports whether a pattern of NATS covers a literal subject.
func matches(pattern, subject string) bool {
	for pattern != "" && subject != "" {
		p, morePattern, _ := strings.Cut(pattern, ".")
		s, moreSubject, _ := strings.Cut(subject, ".")
		if p == ">" {
			return true
		}
		if p != "*" && p != s {
			return false
		}
		pattern, subject = morePattern, moreSubject
	}
	return pattern == "" && subject == ""
}
