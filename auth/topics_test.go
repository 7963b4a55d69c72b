package auth

import (
	"testing"

	"github.com/nats-io/jwt/v2"
)

func TestTopicsOfACredential(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allow, deny []string
		subject     string
		want        bool
	}{
		"nothing said":            {[]string{"rccs.signal.a.b"}, nil, "rccs.topic.x", true},
		"allowed":                 {[]string{"rccs.topic.news.>"}, nil, "rccs.topic.news.a.b", true},
		"not among the allowed":   {[]string{"rccs.topic.news.>"}, nil, "rccs.topic.new", false},
		"the prefix alone":        {[]string{"rccs.topic.news.>"}, nil, "rccs.topic.news", false},
		"a token":                 {[]string{"rccs.topic.*.a"}, nil, "rccs.topic.x.a", true},
		"more than a token":       {[]string{"rccs.topic.*"}, nil, "rccs.topic.x.a", false},
		"denied":                  {nil, []string{"rccs.topic.secret"}, "rccs.topic.secret", false},
		"beside the denied":       {nil, []string{"rccs.topic.secret"}, "rccs.topic.secrets", true},
		"all is denied":           {nil, []string{">"}, "rccs.topic.x", false},
		"all of ours is denied":   {nil, []string{"rccs.>"}, "rccs.topic.x", false},
		"a wider denial":          {nil, []string{"*.*.x"}, "rccs.topic.x", false},
		"another denial":          {nil, []string{"rccs.signal.>", "*.other.>", "_INBOX.*.*.>"}, "rccs.topic.x", true},
		"all, and one by name":    {[]string{"rccs.topic.a", ">"}, nil, "rccs.topic.b", true},
		"ours, and one by name":   {[]string{"rccs.topic.a", "rccs.>"}, nil, "rccs.topic.b", true},
		"an allowance beside":     {[]string{"rccs.topic.a", "rccs.signal.>"}, nil, "rccs.topic.b", false},
		"denied among allowed":    {[]string{"rccs.topic.>"}, []string{"rccs.topic.a.*"}, "rccs.topic.a.b", false},
		"all but services denied": {nil, []string{"rccs.topic.>"}, "rccs.topic.x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := jwt.NewUserClaims("U")
			claims.Sub.Allow.Add(c.allow...)
			claims.Sub.Deny.Add(c.deny...)
			topics := newTopics(claims)
			if got := topics.MaySubscribe(c.subject); got != c.want {
				t.Errorf("%s: %v, want %v", c.subject, got, c.want)
			}
			if !topics.MayPublish(c.subject) {
				t.Error("what is said of subscribing counts for publishing")
			}
		})
	}
}
