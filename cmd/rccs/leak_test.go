package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/testkit"
)

// heard collects what one listener receives.
type heard struct{ testkit.Log }

// ServeHTTP is a collector of traces.
func (h *heard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(h, r.Body)
	w.WriteHeader(http.StatusOK)
}

// secrets are what must be seen nowhere, by what they are.
type secrets map[string]string

// token adds a token, and one that its signature does not fit.
func (s secrets) token(what, jwt string) (wrong string) {
	wrong = jwt[:len(jwt)-8] + "AAAAAAAA"
	for name, t := range map[string]string{what: jwt, what + ", changed": wrong} {
		s[name] = t
		s[name+": the signature"] = t[strings.LastIndex(t, ".")+1:]
	}
	return wrong
}

// creds adds what a credentials file holds, and returns its path.
func (s secrets) creds(t *testing.T, what, text string) (path string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "SU") || strings.HasPrefix(line, "eyJ") {
			s[what+" "+line[:2]] = line
		}
	}
	path = filepath.Join(t.TempDir(), "secret.creds")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever way a secret comes in, right or wrong, it is in no log at the most
// talkative level, not in the audit, not in events, metrics or traces, and in no
// answer to somebody who was refused.
func TestNoSecretIsEverLogged(t *testing.T) {
	t.Parallel()
	var traces, said heard
	collector := httptest.NewServer(&traces)
	t.Cleanup(collector.Close)
	dir := t.TempDir()
	all := secrets{"the admin token": "admin-token-of-this-test-0123456789"}
	admin := all["the admin token"]
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(admin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := serve(t, "--log-level", "debug", "--log-format", "json", "--admin-token-file", tokenFile,
		"--otlp-endpoint", collector.URL, "--otlp-protocol", "http", "--trace-share", "1")
	c := i.console()
	run := func(args ...string) {
		_, _ = io.WriteString(&said, c.run(t, args...).err)
	}

	service := strings.TrimSpace(c.succeed(t, "creds", "service", "billing", "--bearer").out)
	device := strings.TrimSpace(c.succeed(t, "creds", "device", "alice/phone", "--bearer").out)
	wrongService, wrongDevice := all.token("a service's token", service), all.token("a device's token", device)
	deviceFile := all.creds(t, "a device's file", c.succeed(t, "creds", "device", "alice/desktop").out)
	serviceFile := all.creds(t, "a service's file", c.succeed(t, "creds", "service", "shop").out)
	partFile := all.creds(t, "a part's file", c.succeed(t, "creds", "part", "edge-9").out)
	code := c.newCode(t, "--user", "alice")
	all["an enrolment code"] = code
	all["a wrong code"] = "ZZZZ-QQQQ"
	all["an identity token"] = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwifQ.c2lnbmF0dXJlLW9mLXRoaXMtdGVzdA"
	for _, name := range []string{"in the query", "in a header", "in a cookie", "of another kind"} {
		all["a token "+name] = "secret-" + strings.ReplaceAll(name, " ", "-") + "-9f8e7d6c"
	}

	// HTTP, at every address, with each in each place.
	ask := func(method, url, body string, header ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(header); n += 2 {
			req.Header.Set(header[n], header[n+1])
		}
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode >= 400 || url == i.admin+"/metrics" {
			_, _ = said.Write(text)
		}
	}
	devices := "http" + strings.TrimSuffix(strings.TrimPrefix(i.edge, "ws"), "/v1/ws")
	js := []string{"Content-Type", "application/json"}
	for _, token := range []string{admin, service, wrongService, device, wrongDevice, all["a token of another kind"], admin + "x"} {
		for _, path := range []string{"/v1/users", "/v1/status", "/v1/audit", "/metrics", "/console/", "/debug/pprof/cmdline"} {
			ask(http.MethodGet, i.admin+path, "", "Authorization", "Bearer "+token)
		}
		ask(http.MethodPost, i.admin+"/v1/messages", `{"to":{"user":"alice"},"type":"note","payload":1}`, append(js, "Authorization", "Bearer "+token)...)
		ask(http.MethodPost, i.admin+"/v1/session", `{"token":"`+token+`"}`, js...)
		ask(http.MethodPost, i.admin+"/v1/session", `{"tok":"`+token+`"}`, js...)
		ask(http.MethodGet, i.admin+"/v1/users?token="+token, "", "Authorization", "Basic "+token)
		ask(http.MethodGet, devices+"/v1/ws?token="+token, "", "Authorization", "Bearer "+token)
		_, _, _ = devicetest.Dial(t.Context(), i.edge+"?access_token="+token, devicetest.How{}) //nolint:bodyclose // Dial has closed it
	}
	ask(http.MethodGet, i.admin+"/v1/users?token="+all["a token in the query"], "", "X-Api-Key", all["a token in a header"], "Cookie", "rccs_session="+all["a token in a cookie"])
	ask(http.MethodGet, devices+"/v1/enroll/"+all["a token in the query"], "", "X-Api-Key", all["a token in a header"], "Cookie", "s="+all["a token in a cookie"])

	// Devices, by each way that a token may come.
	for _, token := range []string{device, wrongDevice, service, admin, all["a token of another kind"]} {
		for _, how := range []devicetest.How{
			{Header: http.Header{"Authorization": {"Bearer " + token}}}, {Subprotocols: []string{"rccs.v1", "rccs.token." + token}}, {},
		} {
			ws, _, err := devicetest.Dial(t.Context(), i.edge, how) //nolint:bodyclose // Dial has closed it
			if err != nil {
				continue
			}
			d := devicetest.Greet(t, ws)
			d.Send(`{"type":"device_register","id":"r","payload":{"authToken":"` + token + `"}}`)
			_, frame := d.Next()
			_, _ = io.WriteString(&said, frame)
			_ = d.Close()
		}
	}
	for _, file := range []string{deviceFile, serviceFile, partFile} {
		run("connect", "alice/desktop", "--creds", file, "--count", "1", "--timeout", "1s")
		run("status", "--creds", file)
		run("enroll", "renew", "--creds", file)
	}
	broken := filepath.Join(dir, "broken.creds")
	text, err := os.ReadFile(deviceFile)
	if err == nil {
		err = os.WriteFile(broken, bytes.ReplaceAll(text, []byte("-----"), []byte("--")), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run("connect", "alice/desktop", "--creds", broken, "--timeout", "1s")
	desktop, err := client.Dial(t.Context(), i.edge, &client.Options{Credentials: client.CredentialsFile(deviceFile)})
	if err != nil {
		t.Fatal(err)
	}
	note, err := client.Compose("note", 1, client.To("phone"))
	if err == nil {
		_, err = desktop.Send(t.Context(), note)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = desktop.Close()

	// NATS itself.
	for _, token := range []string{admin, device, wrongDevice, wrongService} {
		if nc, err := nats.Connect(i.nats, nats.UserJWT(func() (string, error) { return token, nil }, func([]byte) ([]byte, error) { return nil, nil })); err == nil {
			nc.Close()
		}
		if nc, err := nats.Connect(i.nats, nats.Token(token)); err == nil {
			nc.Close()
		}
		if nc, err := nats.Connect(i.nats, nats.UserInfo("somebody", token)); err == nil {
			nc.Close()
		}
	}

	// Enrolment: wrong, right, and used.
	for _, one := range []string{all["a wrong code"], code} {
		run("enroll", "--code", one, "--device", "tablet", "--out", filepath.Join(dir, one+".creds"))
	}
	run("enroll", "--code", code, "--device", "other", "--out", filepath.Join(dir, "again.creds"))
	ask(http.MethodPost, devices+enroll.PathEnroll, `{"identityToken":"`+all["an identity token"]+`","device":"phone"}`, js...)
	ask(http.MethodPost, devices+enroll.PathEnroll, `{"code":"`+code+`","unknown":1`, js...)

	// All that was written down.
	ask(http.MethodGet, i.admin+"/metrics", "", "Authorization", "Bearer "+admin)
	testkit.Eventually(t, "the trace of the last message has come", func() bool { return strings.Contains(traces.String(), note.ID) })
	keys, err := os.ReadDir(filepath.Join(i.data, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if seed, err := os.ReadFile(filepath.Join(i.data, "keys", key.Name())); err == nil && strings.HasPrefix(string(seed), "S") {
			all["the key "+key.Name()] = strings.TrimSpace(string(seed))
		}
	}
	events := everything(t, i, "RCCS_EVENT") + everything(t, i, "RCCS_AUDIT")
	c.succeed(t, "doctor", "--json")
	places := map[string]string{
		"the log": i.stderr(), "an answer, a command's error or a metric": said.String(), "a trace": traces.String(), "an event or the audit": events,
		"the audit as it is listed": c.succeed(t, "audit", "--json").out,
	}
	for where, text := range places {
		if len(text) < 100 {
			t.Errorf("%s is nearly empty: %q", where, text)
		}
		for what, secret := range all {
			encoded := base64.StdEncoding.EncodeToString([]byte(secret))
			if strings.Contains(text, secret) || strings.Contains(text, encoded[:len(encoded)-4]) {
				at := strings.Index(text, secret)
				t.Errorf("%s is in %s: …%s…", what, where, text[max(at-150, 0):min(max(at, 0)+40, len(text))])
			}
		}
	}
	if len(all) < 20 {
		t.Errorf("only %d secrets were tried", len(all))
	}
}

// everything returns the headers and bodies of all messages of a stream.
func everything(t *testing.T, i *installation, stream string) string {
	t.Helper()
	part := filepath.Join(t.TempDir(), "part.creds")
	if err := os.WriteFile(part, []byte(i.console().succeed(t, "creds", "part", "reader").out), 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(i.nats, nats.UserCredentials(part), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var all strings.Builder
	for seq, missed := 1, 0; missed < 20; seq++ {
		body, _ := json.Marshal(map[string]int{"seq": seq})
		m, err := nc.Request("$JS.API.STREAM.MSG.GET."+stream, body, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Message *struct{ Hdrs, Data []byte }
		}
		if json.Unmarshal(m.Data, &got) != nil || got.Message == nil {
			missed++
			continue
		}
		all.Write(got.Message.Hdrs)
		all.Write(got.Message.Data)
	}
	return all.String()
}
