package edge

import (
	"net/http"
	"testing"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	listed := []string{"https://app.example.com", "http://localhost:3000", "null"}
	for name, c := range map[string]struct {
		list   []string
		host   string
		origin []string
		want   bool
	}{
		"no browser":                {nil, "edge.example.com", nil, true},
		"no browser, listed":        {listed, "edge.example.com", nil, true},
		"same origin":               {nil, "edge.example.com", []string{"https://edge.example.com"}, true},
		"same origin with port":     {nil, "127.0.0.1:8080", []string{"http://127.0.0.1:8080"}, true},
		"same origin, case":         {nil, "Edge.example.com", []string{"https://edge.EXAMPLE.com"}, true},
		"same origin, default port": {nil, "edge.example.com:443", []string{"https://edge.example.com"}, true},
		"same origin, IPv6":         {nil, "[::1]:443", []string{"https://[::1]"}, true},
		"another host":              {nil, "edge.example.com", []string{"https://evil.example.com"}, false},
		"another port":              {nil, "127.0.0.1:8080", []string{"http://127.0.0.1:8081"}, false},
		"a prefix":                  {nil, "edge.example.com", []string{"https://edge.example.com.evil.com"}, false},
		"user info":                 {nil, "edge.example.com", []string{"https://edge.example.com@evil.com"}, false},
		"null":                      {nil, "edge.example.com", []string{"null"}, false},
		"empty":                     {nil, "edge.example.com", []string{""}, false},
		"no URL":                    {nil, "edge.example.com", []string{"https://%"}, false},
		"two":                       {nil, "edge.example.com", []string{"https://edge.example.com", "https://evil.com"}, false},
		"listed":                    {listed, "edge.example.com", []string{"https://app.example.com"}, true},
		"listed, default port":      {listed, "edge.example.com", []string{"https://app.example.com:443"}, true},
		"listed, another scheme":    {listed, "edge.example.com", []string{"http://app.example.com"}, false},
		"listed, a subdomain":       {listed, "edge.example.com", []string{"https://x.app.example.com"}, false},
		"listed null":               {listed, "edge.example.com", []string{"null"}, true},
		"listed, still same origin": {listed, "edge.example.com", []string{"https://edge.example.com"}, true},
		"off":                       {[]string{"*"}, "edge.example.com", []string{"https://evil.example.com"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := newOrigins(c.list)
			if err != nil {
				t.Fatal(err)
			}
			if got := o.allow(&http.Request{Host: c.host, Header: http.Header{"Origin": c.origin}}); got != c.want {
				t.Errorf("allowed: %t, want %t", got, c.want)
			}
		})
	}
}

func TestOriginsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "example.com", "https://", "https://a/b", "https://u@a", "https://a?b", "a b", "https://%"} {
		if CheckOrigin(s) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://app.example.com", "null", "http://[::1]:80", "https://%", "://", "//a"} {
		f.Add(s, "app.example.com")
	}
	f.Fuzz(func(t *testing.T, origin, host string) {
		o, err := newOrigins([]string{"https://app.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		allowed := o.allow(&http.Request{Host: host, Header: http.Header{"Origin": {origin}}})
		if allowed && canonicalOrigin(origin) != "https://app.example.com" && host == "" {
			t.Errorf("%q was allowed at a host without a name", origin)
		}
	})
}
