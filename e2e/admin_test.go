package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// get fetches a path of the admin address.
func (s *server) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(s.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// metrics are the samples, by name and labels as they stand.
func (s *server) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	status, body := s.get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: status %d", status)
	}
	samples := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
				samples[line[:i]] = v
			}
		}
	}
	return samples
}

// becomesReady waits until /readyz says so: on a busy machine it may miss what its
// streams say for a moment.
func (s *server) becomesReady(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		if status, body := s.get(t, "/readyz"); status != http.StatusOK {
			return fmt.Errorf("/readyz: status %d, %q", status, body)
		}
		return nil
	})
}

func TestAdmin_HealthAndReadiness(t *testing.T) {
	t.Parallel()
	s := use(t)
	if status, body := s.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: status %d, %q", status, body)
	}
	s.becomesReady(t)
	if status, _ := s.get(t, "/nonsense"); status != http.StatusNotFound {
		t.Errorf("/nonsense: status %d", status)
	}
}

func TestAdmin_MetricsCount(t *testing.T) {
	t.Parallel()
	s := start(t)
	const count = 25
	d := connect(t, s, "alice/phone", nil)
	for i := range count {
		d.tell("phone", i, nil)
	}
	for range count {
		d.ack(d.message().Seq)
	}
	d.sendText("{")
	d.wantError("BAD_FRAME")
	d.send(object{"id": "x", "type": "note", "toDeviceId": "nobody", "payload": 1})
	d.wantError("DEVICE_NOT_FOUND")
	connect(t, s, "alice/phone", nil).beat()
	d.wantError("SESSION_REPLACED")
	d.wantClose(4002)
	d.close()
	want := map[string]float64{
		"rccs_connections":                                 1,
		"rccs_registrations_total":                         2,
		"rccs_messages_received_total":                     count,
		"rccs_messages_sent_total":                         count,
		"rccs_messages_acked_total":                        count,
		"rccs_received_to_stored_seconds_count":            count,
		"rccs_stored_to_written_seconds_count":             count,
		"rccs_stored_to_acked_seconds_count":               count,
		`rccs_errors_total{code="BAD_FRAME"}`:              1,
		`rccs_errors_total{code="DEVICE_NOT_FOUND"}`:       1,
		`rccs_errors_total{code="SESSION_REPLACED"}`:       1,
		`rccs_closes_total{code="4002"}`:                   1,
		`rccs_stored_to_written_seconds_bucket{le="+Inf"}`: count,
	}
	eventually(t, func() error {
		got := s.metrics(t)
		// Of a registration that was turned away, the device has come again.
		want["rccs_connections_accepted_total"] = 2 + got[`rccs_errors_total{code="UNAVAILABLE"}`]
		for name, value := range want {
			if v, ok := got[name]; !ok || v != value {
				return fmt.Errorf("%s is %v (there: %v), want %v", name, v, ok, value)
			}
		}
		for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
			if got[name] == 0 {
				return fmt.Errorf("%s is missing", name)
			}
		}
		return nil
	})
}
