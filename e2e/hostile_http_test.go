package e2e_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// raw sends bytes, and returns the status of the first answer. all has the server
// end the connection, and reports whether another answer came before that.
func raw(t *testing.T, host, request string, all bool) (status int, more bool) {
	t.Helper()
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%q is not answered: %v", request, err)
	}
	defer response.Body.Close()
	if !all {
		return response.StatusCode, false
	}
	rest, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%q: the server does not end the connection: %v", request, err)
	}
	return response.StatusCode, strings.Contains(string(rest), "HTTP/1.1 200")
}

// However its path is written, nothing of the admin address is on that of
// devices, and nobody connects there from another origin.
func TestNoPathOfDevicesLeadsToTheAdminAddress(t *testing.T) {
	t.Parallel()
	s := use(t)
	u, err := url.Parse(s.Devices)
	if err != nil {
		t.Fatal(err)
	}
	admin := strings.TrimPrefix(s.Admin, "http://")
	const end = "\r\nConnection: close\r\n\r\n"
	var tried int
	for _, path := range []string{
		"/metrics", "/debug/pprof/", "/console/", "/v1/users", "/v1/openapi.json", "/v1/session", "/v1/status", "/v1/tenants", "//v1/tenants", "/v1//status",
		"/v1/ws/../status", "/v1/%2e%2e/metrics", "/healthz/../metrics", "/healthz/..%2fmetrics", "/healthz%2f..%2fmetrics", "/V1/STATUS", "/v1/ws%00", "/v1/enroll/../status",
		"http://" + admin + "/v1/status", "http://localhost/metrics",
	} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			tried++
			if status, _ := raw(t, u.Host, method+" "+path+" HTTP/1.1\r\nHost: "+u.Host+"\r\nContent-Length: 0"+end, false); status < 300 {
				t.Errorf("%s %s is answered %d", method, path, status)
			}
		}
	}
	const upgrade = "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: rccs.v1"
	own := "http://" + u.Host
	for _, origin := range []string{
		"null", own + ".evil.example", "http://evil@" + u.Host, own + "@evil.example", own + "/x", "http://localhost", "file://", own + " http://evil.example",
		"http://evil.example\r\nOrigin: " + own, own + "\r\nOrigin: http://evil.example", "http://[::ffff:127.0.0.1]:" + u.Port(),
	} {
		tried++
		if status, _ := raw(t, u.Host, "GET /v1/ws HTTP/1.1\r\nHost: "+u.Host+upgrade+"\r\nOrigin: "+origin+"\r\n\r\n", false); status != http.StatusForbidden {
			t.Errorf("origin %q is answered %d", origin, status)
		}
	}
	t.Logf("%d requests", tried)
}

// A request has one meaning, or is refused: none hides a second one.
func TestNoRequestHidesAnother(t *testing.T) {
	t.Parallel()
	s := use(t)
	u, err := url.Parse(s.Devices)
	if err != nil {
		t.Fatal(err)
	}
	const hidden = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for name, request := range map[string]string{
		"two lengths":         "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde" + hidden,
		"an unknown coding":   "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"a space":             "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
		"two codings":         "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden,
		"two hosts":           "Host: b\r\nContent-Length: 2\r\n\r\n{}" + hidden,
		"a negative length":   "Content-Length: -1\r\n\r\n{}" + hidden,
		"a length with signs": "Content-Length: +2\r\n\r\n{}" + hidden,
		"a bad chunk":         "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + hidden,
	} {
		for _, host := range []string{u.Host, strings.TrimPrefix(s.Admin, "http://")} {
			if status, more := raw(t, host, "POST /v1/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+request, true); status < 400 || more {
				t.Errorf("%s at %s: answered %d, and another request after it: %t", name, host, status, more)
			}
		}
	}
}

// However it is written, a request that is not from this machine, or that a web
// page or a proxy is behind, gets nothing of the admin address without a token.
func TestNothingOfTheAdminAddressIsForOthers(t *testing.T) {
	t.Parallel()
	s := use(t)
	host := strings.TrimPrefix(s.Admin, "http://")
	const end = "\r\nConnection: close\r\n\r\n"
	for _, path := range []string{"/v1/status", "/v1/tenants", "/metrics", "/debug/pprof/", "/healthz/..%2fmetrics", "/healthz%2f..%2fmetrics", "/console/", "/console/../metrics", "/readyz/", "/HEALTHZ"} {
		for _, headers := range []string{
			"Host: evil.example", "Host: localhost.evil.example", "Host: 127.0.0.1.nip.io", "Host: evil.example:localhost", "Host: 127.1", "Host: 2130706433", "Host: 0.0.0.0", "Host: ",
			"Host: 127.0.0.1,evil.example", "Host: localhost\r\nHost: evil.example",
			"Host: localhost\r\nX-Forwarded-For: 203.0.113.9", "Host: localhost\r\nX-Forwarded-For:\r\nX-Forwarded-For: 203.0.113.9", "Host: localhost\r\nForwarded: for=203.0.113.9",
			"Host: localhost\r\nX-Real-IP: 203.0.113.9", "Host: localhost\r\nVia: 1.1 p",
			"Host: localhost\r\nSec-Fetch-Site: cross-site", "Host: localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site", "Host: localhost\r\nSec-Fetch-Site: none, cross-site",
			"Host: localhost\r\nOrigin: null", "Host: localhost\r\nOrigin: http://evil.example",
		} {
			if status, _ := raw(t, host, "GET "+path+" HTTP/1.1\r\n"+headers+end, false); status < 400 {
				t.Errorf("%s with %q is answered %d", path, headers, status)
			}
		}
	}
	if status, _ := raw(t, host, "GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost"+end, false); status < 400 {
		t.Errorf("a request for another host is answered %d", status)
	}
}
