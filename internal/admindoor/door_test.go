package admindoor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rccs-io/rccs/internal/admindoor"
)

func TestWhoIsLetInWithoutAToken(t *testing.T) {
	t.Parallel()
	type headers = map[string]string
	link := headers{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
	for _, test := range []struct {
		method, host, path string
		headers            headers
		status             int
	}{
		{"GET", "localhost:8081", "/metrics", nil, 200},
		{"GET", "LOCALHOST", "/metrics", nil, 200},
		{"GET", "127.0.0.1:8081", "/metrics", nil, 200},
		{"GET", "127.8.9.1", "/metrics", nil, 200},
		{"GET", "[::1]:8081", "/metrics", nil, 200},
		{"GET", "[::1]", "/metrics", nil, 200},
		{"GET", "evil.example", "/metrics", nil, 421},
		{"GET", "localhost.evil.example:8081", "/metrics", nil, 421},
		{"GET", "127.0.0.1.evil.example", "/metrics", nil, 421},
		{"GET", "127.1", "/metrics", nil, 421},
		{"GET", "0.0.0.0:8081", "/metrics", nil, 421},
		{"GET", "[::1%25lo]:8081", "/metrics", nil, 421},
		{"GET", "192.168.0.7:8081", "/metrics", nil, 421},
		{"POST", "localhost:8081", "/v1/messages", headers{"Sec-Fetch-Site": "same-origin"}, 200},
		{"POST", "localhost:8081", "/v1/messages", headers{"Sec-Fetch-Site": "none"}, 200},
		{"POST", "localhost:8081", "/v1/messages", headers{"Sec-Fetch-Site": "same-site"}, 403},
		{"POST", "localhost:8081", "/v1/messages", headers{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", "localhost:8081", "/v1/messages", headers{"Sec-Fetch-Site": ""}, 403},
		{"POST", "localhost:8081", "/v1/messages", headers{"Origin": "http://localhost:8081"}, 200},
		{"POST", "localhost:8081", "/v1/messages", headers{"Origin": "http://localhost:9999"}, 403},
		{"POST", "localhost:8081", "/v1/messages", headers{"Origin": "https://localhost:8081"}, 403},
		{"POST", "localhost:8081", "/v1/messages", headers{"Origin": "null"}, 403},
		{"POST", "localhost:8081", "/v1/messages", headers{"Origin": "https://evil.example"}, 403},
		{"GET", "localhost:8081", "/v1/status", headers{"X-Forwarded-For": "203.0.113.9"}, 401},
		{"GET", "localhost:8081", "/v1/status", headers{"Forwarded": "for=203.0.113.9"}, 401},
		{"GET", "localhost:8081", "/v1/status", headers{"X-Forwarded-For": ""}, 401}, // and the proxy's own behind it
		{"GET", "localhost:8081", "/v1/status", headers{"X-Forwarded-Host": "rccs.example.com"}, 401},
		{"GET", "localhost:8081", "/v1/status", headers{"X-Real-IP": "203.0.113.9"}, 401},
		{"GET", "localhost:8081", "/v1/status", headers{"Via": "1.1 proxy"}, 401},
		{"GET", "localhost:8081", "/console/", link, 200},
		{"GET", "localhost:8081", "/console/devices/a/b", link, 200},
		{"GET", "localhost:8081", "/v1/status", link, 403},
		{"GET", "localhost:8081", "/consoles", link, 403},
		{"POST", "localhost:8081", "/console/", link, 403},
		{"GET", "localhost:8081", "/console/", headers{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403},
		{"GET", "localhost:8081", "/console/", headers{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Host = test.host
		for name, value := range test.headers {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		admindoor.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s %s of %s with %v: %d, want %d", test.method, test.path, test.host, test.headers, w.Code, test.status)
		}
		if w.Code == 200 {
			continue
		}
		var problem struct {
			Status int
			Code   string
			Detail string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Status != w.Code || problem.Code == "" || problem.Detail == "" {
			t.Errorf("%s is no problem document: %v", w.Body, err)
		}
	}
}
