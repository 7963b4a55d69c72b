package auth

import (
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/subjects"
)

// Topics says which topics a credential may be used for. The zero value allows
// all of the tenant. A credential whose permissions name subjects of topics
// allows what those say.
type Topics struct {
	publish, subscribe *rules
}

// rules are patterns of NATS subjects.
type rules struct {
	allow, deny []string
}

// MayPublish says whether the subject of a topic may be published to.
func (t Topics) MayPublish(subject string) bool { return t.publish.allows(subject) }

// MaySubscribe says whether the subject of a topic may be listened to.
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

// topicRules are the patterns that name topics; nil when there are none.
func topicRules(p *jwt.Permission) *rules {
	ours := func(all jwt.StringList) (found []string) {
		for _, pattern := range all {
			if strings.HasPrefix(pattern, subjects.TopicPrefix) {
				found = append(found, pattern)
			}
		}
		return found
	}
	r := rules{allow: ours(p.Allow), deny: ours(p.Deny)}
	if r.allow == nil && r.deny == nil {
		return nil
	}
	return &r
}

// matches says whether a pattern of NATS covers a literal subject.
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
