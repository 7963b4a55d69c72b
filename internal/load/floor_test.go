package load_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// floorRun is what the JetStream floor says of one run.
type floorRun struct {
	Messages uint64        `json:"messages"`
	CPU      time.Duration `json:"cpu"`
	Elapsed  time.Duration `json:"elapsed"`
}

// floorInflight is how many publishes wait for their answer: as many as the
// load on the other servers has messages under way.
const floorInflight = deliverPairs * deliverInflight

// floorPayload is the size of a payload of the load on the other servers.
const floorPayload = 256

// jetstreamFloor is a child process with an embedded server.
type jetstreamFloor struct {
	in  io.Writer
	out *json.Decoder
}

func startJetstream(tb testing.TB) *jetstreamFloor {
	tb.Helper()
	cmd := self(tb, "jetstream")
	cmd.Dir = tb.TempDir() // for the store
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Error(err)
		}
	})
	return &jetstreamFloor{in: in, out: json.NewDecoder(out)}
}

// run publishes for a while, and has every message read back.
func (f *jetstreamFloor) run(tb testing.TB, during time.Duration) floorRun {
	tb.Helper()
	if _, err := fmt.Fprintln(f.in, during); err != nil {
		tb.Fatal(err)
	}
	var r floorRun
	if err := f.out.Decode(&r); err != nil {
		tb.Fatalf("the JetStream floor: %v", err)
	}
	return r
}

// jetstreamChild answers each line of its standard input, a duration, with a
// line of JSON.
func jetstreamChild() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(&server.Options{
		DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, SyncInterval: time.Second,
	})
	if err != nil {
		return err
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("the server of the JetStream floor does not start")
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		during, err := time.ParseDuration(in.Text())
		if err != nil {
			return err
		}
		r, err := publishAndRead(srv, during)
		if err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// publishAndRead takes the CPU time of this process for messages that are
// published, stored, and read by one consumer of the whole stream.
func publishAndRead(srv *server.Server, during time.Duration) (r floorRun, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), during+30*time.Second)
	defer cancel()
	writer, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return r, err
	}
	defer writer.Close()
	reader, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return r, err
	}
	defer reader.Close()
	js, err := jetstream.New(writer, jetstream.WithPublishAsyncMaxPending(floorInflight))
	if err != nil {
		return r, err
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "FLOOR", Subjects: []string{"floor.>"}, Storage: jetstream.FileStorage, Duplicates: 100 * time.Millisecond,
	}); err != nil {
		return r, err
	}
	read, stop, err := readAll(ctx, reader)
	if err != nil {
		return r, err
	}
	defer stop()
	// On a busy machine an answer may take longer than the default of 200 ms.
	patient := jetstream.WithStallWait(10 * time.Second)
	payload, cpu, start := make([]byte, floorPayload), cpuTime(), time.Now()
	for ; time.Since(start) < during; r.Messages++ {
		if _, err := js.PublishAsync("floor.user.device.normal", payload, patient); err != nil {
			return r, err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return r, ctx.Err()
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for read.Load() < r.Messages {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return r, fmt.Errorf("%d of %d messages were read: %w", read.Load(), r.Messages, ctx.Err())
		}
	}
	r.CPU, r.Elapsed = cpuTime()-cpu, time.Since(start)
	return r, js.DeleteStream(ctx, "FLOOR")
}

// readAll counts what one consumer reads, in memory and without
// acknowledgements.
func readAll(ctx context.Context, nc *nats.Conn) (*atomic.Uint64, func(), error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	consumer, err := js.CreateConsumer(ctx, "FLOOR", jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return nil, nil, err
	}
	read := new(atomic.Uint64)
	consuming, err := consumer.Consume(func(jetstream.Msg) { read.Add(1) }, jetstream.PullMaxMessages(4096))
	if err != nil {
		return nil, nil, err
	}
	return read, func() {
		consuming.Stop()
		<-consuming.Closed()
	}, nil
}

// cpuTime is what this process has spent, in user and kernel mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
