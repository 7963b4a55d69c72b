package node_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/tlsfiles"
	"github.com/rccs-io/rccs/subjects"
)

const (
	adminToken = "0123456789abcdef-the-token-of-the-test"
	wrongToken = "fedcba9876543210-is-another-token-than-it"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	testkit.Check(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// run starts a node as opts say, with what all tests need.
func run(t *testing.T, opts node.Options) *node.Node {
	t.Helper()
	opts.NATSListen = nodetest.AnyPort
	if opts.AdminListen == "" {
		opts.AdminListen = nodetest.AnyPort
	}
	return nodetest.Start(t, opts)
}

// answer is what came of a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks once, on a connection of its own.
func get(t *testing.T, url string, config *tls.Config, header http.Header) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	testkit.Check(t, err)
	maps.Copy(req.Header, header)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}).Do(req)
	testkit.Check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	testkit.Check(t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// secure is a registered device on a TLS connection.
func secure(t *testing.T, n *node.Node, ca *natstest.CA, name string) *devicetest.Device {
	t.Helper()
	return nodetest.Register(t, n.Addr().String(), nodetest.Registering{
		Token: nodetest.Token(t, n, name), TLS: &tls.Config{RootCAs: ca.Pool()},
	})
}

func serial(d *devicetest.Device) string {
	return d.NetConn().(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// exchange sends a message from one device to another and sees it arrive.
func exchange(t *testing.T, from, to *devicetest.Device, device, id string) {
	t.Helper()
	// Larger than a record of TLS, and than what is gathered into one write.
	payload := strings.Repeat("x", 100<<10)
	from.Send(`{"id":"` + id + `","type":"note","toDeviceId":"` + device + `","payload":"` + payload + `"}`)
	if got := to.Read(); got["id"] != id || got["payload"] != payload {
		t.Fatalf("got %.200v", got)
	}
}

func TestDevicesStayWhileTheCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	n := run(t, node.Options{Transport: node.Transport{TLS: tlsfiles.Files{Cert: cert, Key: key}}})
	phone, desktop := secure(t, n, ca, "alice/phone"), secure(t, n, ca, "alice/desktop")
	exchange(t, desktop, phone, "phone", "1")

	ca.Files("edge")
	testkit.Check(t, n.Reload())
	exchange(t, phone, desktop, "desktop", "2")
	if now := secure(t, n, ca, "bob/phone"); serial(now) == serial(phone) {
		t.Error("a new connection is shown the old certificate")
	}

	// A file that is spoilt changes nothing, and is told.
	good, err := os.ReadFile(key)
	testkit.Check(t, err)
	testkit.Check(t, os.WriteFile(key, good[:40], 0o600))
	if err := n.Reload(); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("reloaded half a key: %v", err)
	}
	exchange(t, desktop, phone, "phone", "3")
	secure(t, n, ca, "bob/desktop")

	_, err = tls.Dial("tcp", n.Addr().String(), &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11})
	if err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// Services reach NATS by mutual TLS, and the process itself through memory.
func TestMutualTLSForServices(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("nats")
	conf := writeFile(t, "nats.conf", string(rccs.DefaultConfig())+
		fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, key, ca.File))
	n := run(t, node.Options{ConfigPath: conf})
	phone := connect(t, n, "alice/phone")
	cred, err := n.Keys().IssueService("billing", auth.ServiceOptions{Expires: time.Hour})
	testkit.Check(t, err)
	config := &tls.Config{RootCAs: ca.Pool()}
	if nc, err := nats.Connect(n.NATSURL(), cred.Option(), nats.Secure(config), nats.NoReconnect()); err == nil {
		nc.Close()
		t.Fatal("a service without a certificate was let in")
	}
	config.Certificates = []tls.Certificate{ca.Pair("billing")}
	nc, err := nats.Connect(n.NATSURL(), cred.Option(), nats.Secure(config), nats.NoReconnect(), nats.Timeout(testkit.Patience))
	testkit.Check(t, err)
	defer nc.Close()
	for _, payload := range []string{`"before"`, `"after"`} {
		testkit.Check(t, nc.Publish(subjects.Inbox(subjects.Address{User: "alice", Device: "phone"}.Key(), subjects.Normal), []byte(payload)))
		if got := phone.Read(); `"`+got["payload"].(string)+`"` != payload {
			t.Errorf("got %v, want %s", got, payload)
		}
		ca.Files("nats")
		testkit.Check(t, n.Reload())
	}
	if nc.Stats().Reconnects != 0 || !nc.IsConnected() {
		t.Error("the service was cut off")
	}
}

func TestAdminToken(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "token", adminToken+"\n")
	n := run(t, node.Options{Transport: node.Transport{AdminTokenFile: file}, AdminListen: "0.0.0.0:0"})
	_, port, _ := strings.Cut(n.AdminAddr().String(), "]:")
	base := "http://127.0.0.1:" + port
	if port == "" {
		base = "http://" + strings.Replace(n.AdminAddr().String(), "0.0.0.0", "127.0.0.1", 1)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := get(t, base+path, nil, nil); got.status != http.StatusOK {
			t.Errorf("%s without a token: %d", path, got.status)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/nothing"} {
		for name, c := range map[string]struct {
			header string
			want   int
		}{
			"none":         {"", http.StatusUnauthorized},
			"wrong":        {"Bearer " + wrongToken, http.StatusUnauthorized},
			"a prefix":     {"Bearer " + adminToken[:20], http.StatusUnauthorized},
			"longer":       {"Bearer " + adminToken + "x", http.StatusUnauthorized},
			"empty":        {"Bearer ", http.StatusUnauthorized},
			"bare":         {adminToken, http.StatusUnauthorized},
			"other scheme": {"Basic " + adminToken, http.StatusUnauthorized},
			"right":        {"Bearer " + adminToken, http.StatusOK},
			"lower case":   {"bearer " + adminToken, http.StatusOK},
		} {
			want := c.want
			if path == "/nothing" && want == http.StatusOK {
				want = http.StatusNotFound
			}
			got := get(t, base+path, nil, http.Header{"Authorization": {c.header}})
			if got.status != want {
				t.Errorf("%s, %s: %d", path, name, got.status)
			}
			if want == http.StatusUnauthorized && (!strings.Contains(got.body, "--admin-token-file") || strings.Contains(got.body, "go_goroutines")) {
				t.Errorf("%s, %s: %q", path, name, got.body)
			}
		}
	}
	// Another token counts at once; a file that is spoilt changes nothing.
	try := func(token string, want int) {
		t.Helper()
		if got := get(t, base+"/metrics", nil, http.Header{"Authorization": {"Bearer " + token}}); got.status != want {
			t.Errorf("answered %d, want %d", got.status, want)
		}
	}
	testkit.Check(t, os.WriteFile(file, []byte(wrongToken), 0o600))
	try(adminToken, http.StatusUnauthorized)
	try(wrongToken, http.StatusOK)
	testkit.Check(t, os.WriteFile(file, []byte("short"), 0o600))
	try("short", http.StatusUnauthorized)
	try(wrongToken, http.StatusOK)
}

func TestAdminAddressesThatAreRefused(t *testing.T) {
	t.Parallel()
	for listen, refused := range map[string]bool{
		"127.0.0.1:0": false, "localhost:0": false, "[::1]:0": false, "127.8.0.1:0": false,
		":0": true, "0.0.0.0:0": true, "[::]:0": true, "10.0.0.1:0": true, "example.com:0": true, "": false,
	} {
		_, err := node.New(node.Options{Data: t.TempDir(), Listen: "127.0.0.1:0", AdminListen: listen, Config: rccs.DefaultConfig()})
		if got := err != nil; got != refused {
			t.Errorf("%s: %v, want refused %t", listen, err, refused)
		}
		if err != nil && !strings.Contains(err.Error(), "--admin-token-file") {
			t.Errorf("%s: the fix is not told: %v", listen, err)
		}
	}
	for name, token := range map[string]string{"short": "short", "two words": "two words that are long enough", "empty": ""} {
		_, err := node.New(node.Options{
			Data: t.TempDir(), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Config: rccs.DefaultConfig(),
			Transport: node.Transport{AdminTokenFile: writeFile(t, "token", token)},
		})
		if err == nil || !strings.Contains(err.Error(), "--admin-token-file") {
			t.Errorf("%s: started with %v", name, err)
		}
	}
}

func TestHeadersOfAnswers(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("both")
	files := tlsfiles.Files{Cert: cert, Key: key}
	config := func() *tls.Config { return &tls.Config{RootCAs: ca.Pool()} }
	plain := run(t, node.Options{})
	encrypted := run(t, node.Options{Transport: node.Transport{TLS: files, AdminTLS: files}})
	for url, hsts := range map[string]bool{
		"http://" + plain.Addr().String() + "/x":                  false,
		"http://" + plain.Addr().String() + "/v1/ws":              false,
		"http://" + plain.AdminAddr().String() + "/healthz":       false,
		"https://" + encrypted.Addr().String() + "/v1/ws":         true,
		"https://" + encrypted.AdminAddr().String() + "/metrics":  true,
		"https://" + encrypted.AdminAddr().String() + "/readyz":   true,
		"https://" + encrypted.AdminAddr().String() + "/nothing":  true,
		"https://" + encrypted.AdminAddr().String() + "/healthz/": true,
	} {
		got := get(t, url, config(), nil)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		} {
			if value := got.header.Get(name); value != want {
				t.Errorf("%s: %s is %q, want %q", url, name, value, want)
			}
		}
		if !strings.Contains(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no content security policy", url)
		}
		if sent := got.header.Get("Strict-Transport-Security") != ""; sent != hsts {
			t.Errorf("%s: HSTS %t, want %t", url, sent, hsts)
		}
	}
}

func TestOriginsAtTheDoor(t *testing.T) {
	t.Parallel()
	n := run(t, node.Options{Transport: node.Transport{Origins: []string{"https://app.example.com"}}})
	for origin, want := range map[string]int{
		"":                             http.StatusSwitchingProtocols,
		"https://app.example.com":      http.StatusSwitchingProtocols,
		"http://" + n.Addr().String():  http.StatusSwitchingProtocols,
		"https://evil.example.com":     http.StatusForbidden,
		"https://app.example.com.evil": http.StatusForbidden,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, resp, err := devicetest.Dial(t.Context(), devicetest.URL(n.Addr().String()), devicetest.How{Header: header}) //nolint:bodyclose // Dial has closed it
		if resp == nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want || want == http.StatusForbidden && !strings.Contains(string(body), "--allow-origin") {
			t.Errorf("%q: %s %q, want %d", origin, resp.Status, body, want)
		}
		if ws != nil {
			_ = ws.Close()
		}
	}
	if got := get(t, "http://"+n.AdminAddr().String()+"/metrics", nil, nil); !strings.Contains(got.body, `rccs_connections_refused_total{reason="origin"} 2`) {
		t.Error("refusals are not counted")
	}
}

// seeds are those of the installation's keys.
func seeds(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	testkit.Check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for word := range strings.FieldsSeq(string(text)) {
			if strings.HasPrefix(word, "S") && len(word) == 58 {
				all = append(all, word)
			}
		}
		return err
	}))
	if len(all) == 0 {
		t.Fatalf("no seeds in %s: the test does not see what it should", dir)
	}
	return all
}

// All that is secret is used, rightly and wrongly, while all that can be
// logged is.
func TestSecretsAreToldToNobody(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	log := &testkit.Log{}
	n := run(t, node.Options{
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 8})),
		Transport: node.Transport{
			TLS: tlsfiles.Files{Cert: cert, Key: key}, AdminTokenFile: writeFile(t, "token", adminToken),
		},
	})
	secrets := []string{adminToken, wrongToken}
	issue := func(bearer bool) auth.Credential {
		cred, err := n.Keys().IssueDevice(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{Bearer: bearer, Expires: time.Hour})
		testkit.Check(t, err)
		secrets = append(secrets, cred.JWT, strings.Split(cred.JWT, ".")[2])
		if len(cred.Seed) > 0 {
			secrets = append(secrets, string(cred.Seed))
		}
		return cred
	}
	told := &bytes.Buffer{}
	try := func(header http.Header, query, token string, sign func([]byte) ([]byte, error)) {
		how := devicetest.How{Header: header, TLS: &tls.Config{RootCAs: ca.Pool()}}
		ws, _, err := devicetest.Dial(t.Context(), "wss://"+n.Addr().String()+"/v1/ws"+query, how) //nolint:bodyclose // Dial has closed it
		testkit.Check(t, err)
		defer func() { _ = ws.Close() }()
		testkit.Check(t, ws.SetReadDeadline(time.Now().Add(testkit.Patience)))
		var hello struct{ Payload struct{ Nonce string } }
		testkit.Check(t, ws.ReadJSON(&hello))
		payload := map[string]any{"authToken": token}
		if sign != nil {
			sig, err := sign([]byte(hello.Payload.Nonce))
			testkit.Check(t, err)
			payload["sig"] = base64.RawURLEncoding.EncodeToString(sig)
			secrets = append(secrets, payload["sig"].(string))
		}
		testkit.Check(t, ws.WriteJSON(map[string]any{"type": "device_register", "id": "r", "payload": payload}))
		for _, frame := range []string{`{"type":"heartbeat","id":"h"}`, `{"type":"device_unregister","id":"u"}`} {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(frame))
		}
		for {
			_, data, err := ws.ReadMessage()
			if err != nil {
				return
			}
			told.Write(data)
		}
	}
	bearer, signed := issue(true), issue(false)
	try(nil, "", bearer.JWT, nil)
	try(nil, "", signed.JWT, signed.Sign)
	try(nil, "", signed.JWT, bearer.Sign)                                               // the signature of another
	try(nil, "", bearer.JWT[:len(bearer.JWT)-9], nil)                                   // spoilt
	try(nil, "", "eyJ"+wrongToken, nil)                                                 // no JWT
	try(http.Header{"Authorization": {"Bearer " + bearer.JWT}}, "", "", nil)            // in the upgrade
	try(http.Header{"Authorization": {"Bearer " + wrongToken}}, "", "", nil)            // and wrong
	try(nil, "?token="+bearer.JWT+"&access_token="+wrongToken, signed.JWT, signed.Sign) // where it has no business
	secrets = append(secrets, bearer.JWT[:len(bearer.JWT)-9])

	for _, cred := range []auth.Credential{signed, {JWT: signed.JWT, Seed: bearer.Seed}} {
		prefix := subjects.ReplyPrefix(subjects.Address{User: "alice", Device: "phone"}.Key())
		nc, err := nats.Connect(n.NATSURL(), cred.Option(), nats.NoReconnect(), nats.CustomInboxPrefix(prefix))
		if err == nil {
			nc.Close()
		} else {
			_, _ = told.WriteString(err.Error())
		}
	}
	if nc, err := nats.Connect(n.NATSURL(), nats.Token(wrongToken), nats.NoReconnect()); err == nil {
		nc.Close()
		t.Error("a token opened NATS")
	}
	for _, token := range []string{adminToken, wrongToken} {
		for _, path := range []string{"/metrics", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/readyz", "/metrics?token=" + token} {
			got := get(t, "http://"+n.AdminAddr().String()+path, nil, http.Header{"Authorization": {"Bearer " + token}})
			told.WriteString(got.body)
		}
	}
	testkit.Check(t, n.Reload())
	testkit.Check(t, os.WriteFile(key, []byte("-----BEGIN PRIVATE KEY-----\n"+wrongToken), 0o600))
	if err := n.Reload(); err != nil {
		told.WriteString(err.Error())
	}
	secrets = append(secrets, seeds(t, n.Keys().Dir())...)
	if len(secrets) < 10 || log.String() == "" || !json.Valid([]byte(strings.SplitN(log.String(), "\n", 2)[0])) {
		t.Fatalf("%d secrets and %d bytes of log: the test does not see what it should", len(secrets), len(log.String()))
	}
	for i, secret := range secrets {
		for where, text := range map[string]string{"log": log.String(), "answers": told.String()} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("secret %d is in the %s, after %q", i, where, text[max(0, at-120):at])
			}
		}
	}
}

// A frame that NATS would not carry is told at the start, with what to do.
func TestFramesThatNATSDoesNotCarry(t *testing.T) {
	t.Parallel()
	n, err := node.New(node.Options{
		Data: t.TempDir(), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Config: rccs.DefaultConfig(),
		Limits: node.Limits{MessageBytes: 1<<20 + 1},
	})
	testkit.Check(t, err)
	if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("started with %v", err)
	}
}

// What a start that fails has begun is ended: the check for leaks sees it.
func TestAStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.Check(t, err)
	defer func() { _ = taken.Close() }()
	n, err := node.New(node.Options{
		Data: t.TempDir(), Listen: "127.0.0.1:0", AdminListen: taken.Addr().String(), Config: rccs.DefaultConfig(),
	})
	testkit.Check(t, err)
	if err := n.Start(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("started with %v", err)
	}
}
