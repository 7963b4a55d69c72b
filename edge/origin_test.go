package edge

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	listed := []string{"https://app.example.com", "http://localhost:3000", "null"}
	below := []string{"https://*.example.com", "http://*.localhost:3000"}
	schemes := []string{"vscode-webview://*", "APP://*"}
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
		"below a host":              {below, "e", []string{"https://a.example.com"}, true},
		"two labels below":          {below, "e", []string{"https://a.B.example.com"}, true},
		"below, default port":       {below, "e", []string{"https://a.example.com:443"}, true},
		"the host itself":           {below, "e", []string{"https://example.com"}, false},
		"an empty label":            {below, "e", []string{"https://.example.com"}, false},
		"empty labels":              {below, "e", []string{"https://a..example.com"}, false},
		"below, another port":       {below, "e", []string{"https://a.example.com:8443"}, false},
		"below, the port":           {below, "e", []string{"http://a.localhost:3000"}, true},
		"below, no port":            {below, "e", []string{"http://a.localhost"}, false},
		"below, another scheme":     {below, "e", []string{"http://a.example.com"}, false},
		"below, in the user":        {below, "e", []string{"https://a.example.com@evil.com"}, false},
		"below, in the path":        {below, "e", []string{"https://evil.com/a.example.com"}, false},
		"below, glued on":           {below, "e", []string{"https://aexample.com"}, false},
		"a scheme":                  {schemes, "e", []string{"vscode-webview://0b1c"}, true},
		"a scheme, with a port":     {schemes, "e", []string{"app://x:8"}, true},
		"a scheme, case":            {schemes, "e", []string{"VSCODE-webview://0b1c"}, true},
		"a scheme, no host":         {schemes, "e", []string{"app://"}, false},
		"a scheme, a path":          {schemes, "e", []string{"app://x/y"}, false},
		"another scheme":            {schemes, "e", []string{"vscode-webview2://0b1c"}, false},
		"file":                      {[]string{"file://"}, "e", []string{"file://"}, true},
		"file, not allowed":         {listed, "e", []string{"file://"}, false},
		"file, a host":              {[]string{"file://"}, "e", []string{"file://evil"}, false},
		"all files":                 {[]string{"file://*"}, "e", []string{"file://"}, true},
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

func TestOtherOriginPatternsAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"https://*:8443", "https://a.*.com", "https://*.*.com", "https://*a.com", "https://*.", "https://*.a/b", "*://a", "*://*", "://*", "*.example.com",
		"**", "https://**", "file:///home", "NULL", "https://a:", "https://*.[::1]", "1a://*", "", "example.com", "https://", "https://a/b", "https://u@a", "https://a?b", "a b", "https://%",
		"https://a/", "https://*.a/", "https://a:99999", "https://*.a:65536", "https://a:-1",
	} {
		if CheckOrigin(s) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://app.example.com", "null", "http://[::1]:80", "https://%", "://", "//a", "https://a.example.org", "https://a.example.org@x", "vscode-webview://1q2w"} {
		f.Add(s, "app.example.com")
	}
	f.Fuzz(func(t *testing.T, origin, host string) {
		o, err := newOrigins([]string{"https://app.example.com", "https://*.example.org", "vscode-webview://*"})
		if err != nil {
			t.Fatal(err)
		}
		allowed := o.allow(&http.Request{Host: host, Header: http.Header{"Origin": {origin}}})
		u, err := url.Parse(origin)
		if allowed && (err != nil || u.User != nil || u.Path != "" || u.Hostname() == "") {
			t.Errorf("%q was allowed", origin)
		}
		if allowed && host == "" && u.Hostname() != "app.example.com" && !strings.HasSuffix(strings.ToLower(u.Hostname()), ".example.org") && u.Scheme != "vscode-webview" {
			t.Errorf("%q was allowed at a host without a name", origin)
		}
	})
}
