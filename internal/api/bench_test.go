package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/testkit"
)

// The limits of what a message may cost the server, as times of what a
// service's publish on NATS costs it.
const (
	arrayLimit  = 1.5
	singleLimit = 3.0
)

const (
	arrayOf    = 100
	roundTime  = time.Second // of one way to send, before the next has its turn
	rounds     = 9
	benchChild = "RCCS_API_BENCH_CHILD" // a data directory: this process is the server
	// cpuTick is the unit of CPU time in /proc: 100 a second, whatever the
	// kernel's own clock is.
	cpuTick = 10 * time.Millisecond
)

// serveForBench is the server of the benchmark, in a process of its own, so that
// its CPU time holds nothing of the generator. It ends on SIGTERM.
func serveForBench(data string) error {
	debug.SetGCPercent(200) // as 'rccs serve' does
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	n, err := node.New(node.Options{
		Data: data, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Config: rccs.DefaultConfig(),
		InboxLimit: math.MaxInt32, // nobody acknowledges, and what is sent is counted all the same
	})
	if err != nil {
		return err
	}
	return n.Run(ctx, func() { fmt.Fprintf(os.Stdout, "%s %s %s\n", n.Addr(), n.NATSURL(), n.AdminAddr()) })
}

// bed is a running server of a benchmark, with one device that is away.
type bed struct {
	b       *testing.B
	pid     int
	base    string
	bearer  string
	js      jetstream.JetStream
	http    *http.Client
	payload string
	sent    int
}

func newBed(b *testing.B) *bed {
	b.Helper()
	data := filepath.Join(b.TempDir(), "data")
	program, err := os.Executable()
	testkit.Check(b, err)
	server := exec.Command(program)
	server.Env, server.Stderr = append(os.Environ(), benchChild+"="+data), os.Stderr
	out, err := server.StdoutPipe()
	testkit.Check(b, err)
	testkit.Check(b, server.Start())
	b.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		testkit.Check(b, server.Wait())
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	testkit.Check(b, err)
	var devices, natsURL, admin string
	_, err = fmt.Sscan(line, &devices, &natsURL, &admin)
	testkit.Check(b, err)
	keys, err := auth.OpenKeystore(data)
	testkit.Check(b, err)
	service, err := keys.IssueService("billing", auth.ServiceOptions{Bearer: true})
	testkit.Check(b, err)
	phone, err := keys.IssueDevice(addr("alice", "phone"), auth.DeviceOptions{Bearer: true, Expires: time.Hour})
	testkit.Check(b, err)
	nc, err := nats.Connect(natsURL, service.Option())
	testkit.Check(b, err)
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(arrayOf), jetstream.WithPublishAsyncTimeout(30*time.Second))
	testkit.Check(b, err)
	bd := &bed{
		b: b, pid: server.Process.Pid, base: "http://" + admin, bearer: "Bearer " + service.JWT, js: js,
		http: &http.Client{Transport: &http.Transport{}}, payload: `"` + strings.Repeat("x", 254) + `"`,
	}
	b.Cleanup(bd.http.CloseIdleConnections)
	d := register(b, devices, phone.JWT, "")
	d.Send(`{"type":"device_unregister","id":"bye"}`)
	d.Until("ack")
	_ = d.Close()
	return bd
}

// cpu is the time that the server has spent so far.
func (bd *bed) cpu() time.Duration {
	bd.b.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(bd.pid) + "/stat")
	if err != nil {
		bd.b.Skipf("the CPU time of a process is read from Linux's /proc: %v", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var spent time.Duration
	for _, field := range fields[14-3 : 16-3] { // user and kernel mode
		n, err := strconv.Atoi(field)
		testkit.Check(bd.b, err)
		spent += time.Duration(n) * cpuTick
	}
	return spent
}

// way is a way to send; send sends some messages and says how many.
type way struct {
	name string
	send func() int

	messages int
	cpu      time.Duration
}

func (w *way) each() time.Duration { return w.cpu / time.Duration(max(w.messages, 1)) }

// onNATS is a message as a service publishes it.
func (bd *bed) onNATS() *nats.Msg {
	bd.sent++
	m := nats.NewMsg("rccs.inbox.alice.phone.normal")
	m.Header.Set("Nats-Msg-Id", fmt.Sprintf("n%d", bd.sent))
	m.Header.Set("Rccs-Type", "approval")
	m.Header.Set("Rccs-Ack", "true")
	m.Data = []byte(bd.payload)
	return m
}

// publish publishes many at a time, each answered.
func (bd *bed) publish() int {
	for range arrayOf {
		_, err := bd.js.PublishMsgAsync(bd.onNATS())
		testkit.Check(bd.b, err)
	}
	<-bd.js.PublishAsyncComplete()
	return arrayOf
}

// publishOne waits for the answer to each before the next.
func (bd *bed) publishOne() int {
	for range arrayOf {
		_, err := bd.js.PublishMsg(bd.b.Context(), bd.onNATS())
		testkit.Check(bd.b, err)
	}
	return arrayOf
}

func (bd *bed) message() string {
	bd.sent++
	return fmt.Sprintf(`{"to":{"user":"alice","device":"phone"},"type":"approval","id":"h%d","payload":%s}`, bd.sent, bd.payload)
}

func (bd *bed) post(body string, want int) {
	bd.b.Helper()
	r, err := http.NewRequestWithContext(bd.b.Context(), http.MethodPost, bd.base+"/v1/messages", strings.NewReader(body))
	testkit.Check(bd.b, err)
	r.Header.Set("Authorization", bd.bearer)
	r.Header.Set("Content-Type", "application/json")
	resp, err := bd.http.Do(r)
	testkit.Check(bd.b, err)
	answer, err := io.ReadAll(resp.Body)
	testkit.Check(bd.b, err)
	_ = resp.Body.Close()
	if resp.StatusCode != want || bytes.Contains(answer, []byte(`"error"`)) {
		bd.b.Fatalf("%d %.300s", resp.StatusCode, answer)
	}
}

func (bd *bed) array() int {
	all := make([]string, arrayOf)
	for i := range all {
		all[i] = bd.message()
	}
	bd.post("["+strings.Join(all, ",")+"]", http.StatusOK)
	return arrayOf
}

func (bd *bed) single() int {
	for range arrayOf {
		bd.post(bd.message(), http.StatusAccepted)
	}
	return arrayOf
}

// BenchmarkMessages measures the server's CPU time of a message over HTTP,
// beside that of a service's publish on NATS, each in its turn, and fails above
// the limits: arrays beside a hundred publishes under way, one by one beside one
// by one. The device is away: what delivery costs is the same for all.
func BenchmarkMessages(b *testing.B) {
	bd := newBed(b)
	many, one := &way{name: "nats", send: bd.publish}, &way{name: "nats-single", send: bd.publishOne}
	array, single := &way{name: "array", send: bd.array}, &way{name: "single", send: bd.single}
	ways := []*way{many, one, array, single}
	for _, w := range ways {
		w.send() // connections are made, code is warm
	}
	for b.Loop() {
		for range rounds {
			for _, w := range ways {
				from := bd.cpu()
				for end := time.Now().Add(roundTime); time.Now().Before(end); {
					w.messages += w.send()
				}
				w.cpu += bd.cpu() - from
			}
		}
	}
	for _, w := range ways {
		b.ReportMetric(float64(w.each().Nanoseconds())/1000, w.name+"-µs/message")
	}
	for _, c := range []struct {
		w, floor *way
		max      float64 // 0: to be seen
	}{{array, many, arrayLimit}, {single, one, singleLimit}, {single, many, 0}} {
		ratio := float64(c.w.each()) / float64(c.floor.each())
		b.ReportMetric(ratio, c.w.name+"/"+c.floor.name)
		if c.max > 0 && ratio > c.max {
			b.Errorf("%s costs %.2f times %s, and may cost %.1f", c.w.name, ratio, c.floor.name, c.max)
		}
	}
}
