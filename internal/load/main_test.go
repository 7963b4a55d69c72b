package load_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/natstest"
)

// childEnv makes the test binary one of the floors, or a generator of load, so that each has a process,
// and CPU time, of its own.
const childEnv = "RCCS_BENCH_CHILD"

// certEnv and keyEnv are the files of a relay that takes TLS.
const (
	certEnv = "RCCS_BENCH_CERT"
	keyEnv  = "RCCS_BENCH_KEY"
)

func TestMain(m *testing.M) {
	switch child := os.Getenv(childEnv); child {
	case "":
		natstest.VerifyTestMain(m)
	case "relay":
		runChild(relayChild)
	case "jetstream":
		runChild(jetstreamChild)
	case "devices":
		runChild(devicesChild)
	default:
		runChild(func() error { return fmt.Errorf("no child %q", child) })
	}
}

func runChild(child func() error) {
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// relayChild is the bare relay. It ends on SIGTERM.
func relayChild() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	devices, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer devices.Close()
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer admin.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	go func() { _ = http.Serve(admin, mux) }()
	scheme, take := "ws", net.Listener(relayListener{Listener: devices})
	if cert := os.Getenv(certEnv); cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, os.Getenv(keyEnv))
		if err != nil {
			return err
		}
		scheme, take = "wss", tls.NewListener(take, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
	}
	go func() { _ = http.Serve(take, new(relay)) }()
	fmt.Fprintf(os.Stdout, "devices %s://%s\nadmin http://%s\n", scheme, devices.Addr(), admin.Addr())
	<-stop
	return nil
}

// self is a command that runs this binary as a child.
func self(tb testing.TB, child string) *exec.Cmd {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), childEnv+"="+child)
	return cmd
}

// startRelay starts the bare relay in a process of its own.
func startRelay(tb testing.TB, env ...string) *load.Process {
	tb.Helper()
	cmd := self(tb, "relay")
	cmd.Env = append(cmd.Env, env...)
	p, err := load.Start(cmd)
	if err != nil {
		tb.Fatal(err)
	}
	stopAtEnd(tb, p)
	return p
}

func stopAtEnd(tb testing.TB, p *load.Process) {
	tb.Cleanup(func() {
		if err := p.Stop(); err != nil {
			tb.Error(err)
		}
	})
}

// build builds rccs, once for all benchmarks, where `make build` does.
var build = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "rccs-bench")
	out, err := exec.Command("go", "build", "-o", program, "github.com/rccs-io/rccs/cmd/rccs").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
})

// program is the built rccs.
func program(tb testing.TB) string {
	tb.Helper()
	if *measured != "" {
		return *measured
	}
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// serve starts rccs with an empty store.
func serve(tb testing.TB, flags ...string) (p *load.Process, data string) {
	tb.Helper()
	return serveProgram(tb, program(tb), flags...)
}

// serveProgram is serve with another build.
func serveProgram(tb testing.TB, program string, flags ...string) (p *load.Process, data string) {
	tb.Helper()
	data = filepath.Join(tb.TempDir(), "data")
	p, err := load.Serve(program, data, flags...)
	if err != nil {
		tb.Fatal(err)
	}
	stopAtEnd(tb, p)
	return p, data
}

// accounts are the first n devices, with tokens from the keys in a data directory.
func accounts(tb testing.TB, data string, n int) (all []load.Account) {
	tb.Helper()
	return accountsOf(tb, data, load.Names(n))
}

// accountsOf is accounts for devices with these names.
func accountsOf(tb testing.TB, data string, names []load.Name) (all []load.Account) {
	tb.Helper()
	tokens, err := load.Tokens(tb.Context(), program(tb), data, names)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		all = append(all, load.Account{Name: name, Token: tokens[name]})
	}
	return all
}

// connect connects devices to a server with a data directory, or to a relay,
// which has none.
func connect(tb testing.TB, p *load.Process, data string, opts load.Options) *load.Fleet {
	tb.Helper()
	opts.Target.URL, opts.Target.Relay = p.Devices, data == ""
	if data != "" {
		opts.Target.Accounts = accounts(tb, data, opts.Devices)
	} else {
		for _, name := range load.Names(opts.Devices) {
			opts.Target.Accounts = append(opts.Target.Accounts, load.Account{Name: name})
		}
	}
	return connected(tb, opts)
}

// connected is a fleet that is connected until the test ends.
func connected(tb testing.TB, opts load.Options) *load.Fleet {
	tb.Helper()
	f, err := load.Connect(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}
