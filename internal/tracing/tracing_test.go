package tracing_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/tracing"
)

// spans is a collector of the test's own.
type spans struct {
	collector.UnimplementedTraceServiceServer

	mu  sync.Mutex
	all []*otlp.Span
}

// Export implements the service of a collector over gRPC.
func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP is the same over HTTP.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	req := &collector.ExportTraceServiceRequest{}
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, req) != nil {
		http.Error(w, "not spans", http.StatusBadRequest)
		return
	}
	_, _ = s.Export(r.Context(), req)
}

// named returns the spans of a name.
func (s *spans) named(name string) (found []*otlp.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// collect starts a collector that is spoken to by a protocol.
func collect(t *testing.T, protocol string) (*spans, string) {
	t.Helper()
	s := &spans{}
	if protocol == tracing.HTTP {
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		return s, server.URL
	}
	l, err := net.Listen("tcp", nodetest.AnyPort)
	testkit.Check(t, err)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + l.Addr().String()
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
)

// exchange sends a message from the phone to the desktop, which acknowledges it
// and answers in its place in the trace.
func exchange(t *testing.T, phone, desktop *devicetest.Device, id, traceparent string) string {
	t.Helper()
	phone.Send(`{"type":"ask","id":"` + id + `","toDeviceId":"desktop","requiresAck":true,"traceparent":"` + traceparent + `","payload":{}}`)
	got := desktop.Until("ask")
	place, _ := got["traceparent"].(string)
	seq, _ := got["seq"].(float64)
	desktop.Send(`{"type":"ack","payload":{"seqs":[` + number(seq) + `]}}`)
	desktop.Send(`{"type":"answer","id":"re-` + id + `","toDeviceId":"phone","traceparent":"` + place + `","payload":{}}`)
	answer := phone.Until("answer")
	seq, _ = answer["seq"].(float64)
	phone.Send(`{"type":"ack","payload":{"seqs":[` + number(seq) + `]}}`)
	return place
}

func TestTheWayOfAMessageIsOneTrace(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{tracing.GRPC, tracing.HTTP} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			got, endpoint := collect(t, protocol)
			n := nodetest.Start(t, node.Options{
				AdminListen: nodetest.AnyPort, Tracing: tracing.Options{Endpoint: endpoint, Protocol: protocol, Share: 1, Delay: time.Millisecond},
			})
			phone := nodetest.Register(t, n.Addr().String(), nodetest.Registering{Token: nodetest.Token(t, n, "alice/phone")})
			desktop := nodetest.Register(t, n.Addr().String(), nodetest.Registering{Token: nodetest.Token(t, n, "alice/desktop")})
			place := exchange(t, phone, desktop, "m1", "00-"+traceID+"-"+spanID+"-01")
			if !strings.HasPrefix(place, "00-"+traceID+"-") || strings.Contains(place, spanID) {
				t.Errorf("the desktop was told the place %q", place)
			}
			// Whose sender does not want it recorded.
			if place := exchange(t, phone, desktop, "m2", "00-"+strings.Repeat("1", 32)+"-"+spanID+"-00"); place != "00-"+strings.Repeat("1", 32)+"-"+spanID+"-00" {
				t.Errorf("an unrecorded message has the place %q", place)
			}
			// The question and the answer.
			for name, count := range map[string]int{"receive": 2, "route": 2, "store": 2, "deliver": 2, "acknowledge": 2} {
				testkit.Eventually(t, "the collector has "+name, func() bool { return len(got.named(name)) == count })
			}
			checkTrace(t, got)
			text := openMetrics(t, n)
			for _, name := range []string{"rccs_received_to_stored_seconds", "rccs_stored_to_written_seconds", "rccs_stored_to_acked_seconds"} {
				if !regexp.MustCompile(name + `_bucket.*trace_id="` + traceID + `"`).MatchString(text) {
					t.Errorf("%s names no message's trace", name)
				}
			}
		})
	}
}

// checkTrace checks that each span is where it belongs: the question's, and the
// answer's below it.
func checkTrace(t *testing.T, got *spans) {
	t.Helper()
	under := map[string]string{"route": "receive", "store": "receive", "deliver": "receive", "acknowledge": "deliver"}
	names := map[string]string{spanID: "the phone"}
	for name := range map[string]bool{"receive": true, "deliver": true} {
		for _, s := range got.named(name) {
			names[hexOf(s.SpanId)] = name
		}
	}
	roots := 0
	for _, name := range []string{"receive", "route", "store", "deliver", "acknowledge"} {
		for _, s := range got.named(name) {
			if hexOf(s.TraceId) != traceID {
				t.Errorf("%s is in the trace %x", name, s.TraceId)
			}
			if s.EndTimeUnixNano < s.StartTimeUnixNano {
				t.Errorf("%s ends before it starts", name)
			}
			above := names[hexOf(s.ParentSpanId)]
			switch {
			case name == "receive" && above == "the phone":
				roots++
			case name == "receive": // the answer's is below the question's
				if above != "receive" {
					t.Errorf("the answer is below %q", above)
				}
			case above != under[name]:
				t.Errorf("%s is below %q, want %s", name, above, under[name])
			}
		}
	}
	if roots != 1 {
		t.Errorf("%d spans are below the phone's", roots)
	}
}

func hexOf(id []byte) string {
	if len(id) == 16 {
		return trace.TraceID(id).String()
	}
	if len(id) == 8 {
		return trace.SpanID(id).String()
	}
	return ""
}

func number(seq float64) string { return strconv.FormatFloat(seq, 'f', -1, 64) }

// openMetrics is the page of metrics, in the format that has exemplars.
func openMetrics(t *testing.T, n *node.Node) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.AdminAddr().String()+"/metrics", nil)
	testkit.Check(t, err)
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	testkit.Check(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	testkit.Check(t, err)
	return string(text)
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []tracing.Options{
		{Endpoint: "collector:4317"},
		{Endpoint: "ftp://collector"},
		{Endpoint: "http://"},
		{Endpoint: "http://c:1", Protocol: "udp"},
		{Endpoint: "http://c:1", Share: 1.5},
		{Endpoint: "http://c:1", Share: -1},
	} {
		if tr, err := tracing.New(t.Context(), o); err == nil || tr != nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, o := range []tracing.Options{{}, {Share: 1}, {Endpoint: "http://c:1"}} {
		if tr, err := tracing.New(t.Context(), o); err != nil || tr != nil {
			t.Errorf("%+v: %v, %v", o, tr, err)
		}
	}
}

// A collector that is away holds nobody up.
func TestACollectorThatIsAwayHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, node.Options{Tracing: tracing.Options{Endpoint: "http://127.0.0.1:1", Share: 1}})
	phone := nodetest.Register(t, n.Addr().String(), nodetest.Registering{Token: nodetest.Token(t, n, "alice/phone")})
	desktop := nodetest.Register(t, n.Addr().String(), nodetest.Registering{Token: nodetest.Token(t, n, "alice/desktop")})
	exchange(t, phone, desktop, "m1", "00-"+traceID+"-"+spanID+"-01")
}
