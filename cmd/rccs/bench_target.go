package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/subjects"
)

// benchTarget says what is measured.
type benchTarget struct {
	url, ca, data, tokens, program, admin string
	self                                  bool
	pid                                   uint
	flags                                 *pflag.FlagSet
}

func (f *benchTarget) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.flags = flags
	flags.StringVarP(&f.url, "url", "u", "ws://127.0.0.1:8080/v1/ws", "`URL` of an edge")
	flags.StringVar(&f.ca, "ca", "", "`file` of the CAs (PEM) that may have signed the edge's certificate; default: the system's")
	flags.StringVarP(&f.data, "data", "d", "./data", "`directory` of the installation's keys, to make devices with")
	flags.StringVar(&f.tokens, "tokens", "", "`file` of the devices' tokens, in place of keys: what 'rccs creds device --bearer -' prints")
	flags.BoolVar(&f.self, "self", false, "measure a server that is started for it, in a temporary directory")
	flags.StringVar(&f.program, "program", "", "the rccs `program` that --self starts, in place of this one")
}

// opened is a target that is ready, with what was started for it.
type opened struct {
	load.Target
	server string // what it is called in the result
	close  func() error
}

// tokensLast is how long tokens are good that a run makes for itself.
const tokensLast = 24 * time.Hour

// openTarget finds what is to be measured, or starts it.
func (env *environment) openTarget(ctx context.Context, f *benchTarget, scenario string, devices int) (*opened, error) {
	need := load.Needs(scenario, devices)
	trust, err := edgeTrust(f.ca)
	if err != nil {
		return nil, err
	}
	if f.self || f.program != "" {
		return env.ownServer(ctx, f, need)
	}
	o := &opened{Target: load.Target{URL: f.url, TLS: trust}, close: func() error { return nil }}
	if f.pid > 0 {
		o.Memory = load.Attach(int(f.pid), strings.TrimSuffix(f.admin, "/")).SteadyMemory
	}
	if f.tokens != "" {
		o.Accounts, err = readTokens(f.tokens)
		return o, err
	}
	if !f.named() && (!hasKeys(f.data) || !answers(f.url)) {
		env.note("no installation of %s runs at %s: measuring a server of its own (--self)", f.data, f.url)
		return env.ownServer(ctx, f, need)
	}
	keys, err := env.installed(f.data)
	if err != nil {
		return nil, fmt.Errorf("%w, or the devices' tokens with --tokens", err)
	}
	o.Forget = true // nobody else knows them
	o.Accounts, err = accounts(ctx, keys, need)
	return o, err
}

// edgeTrust is the TLS configuration for the certificates of a file.
func edgeTrust(path string) (*tls.Config, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", path)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// named reports whether an installation was asked for.
func (f *benchTarget) named() bool { return f.flags.Changed("url") || f.flags.Changed("data") }

func hasKeys(data string) bool {
	_, err := os.Stat(filepath.Join(data, "keys"))
	return err == nil
}

// answers reports whether something listens at a URL.
func answers(where string) bool {
	u, err := url.Parse(where)
	if err != nil {
		return false
	}
	nc, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err != nil {
		return false
	}
	_ = nc.Close()
	return true
}

// ownServer starts a server with an empty store, in a process of its own.
func (env *environment) ownServer(ctx context.Context, f *benchTarget, need int) (*opened, error) {
	program, err := os.Executable()
	server := "rccs " + version
	if f.program != "" {
		program, err = f.program, nil
		server = f.program
	}
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "rccs-bench-")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	p, err := load.Serve(program, data)
	if err != nil && f.program != "" {
		err = fmt.Errorf("--program %s: %w", f.program, err)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	o := &opened{server: server, close: sync.OnceValue(func() error { return errors.Join(p.Stop(), os.RemoveAll(dir)) })}
	o.Target = load.Target{URL: p.Devices, Memory: p.SteadyMemory}
	keys, err := auth.OpenKeystore(data)
	if err == nil {
		o.Accounts, err = accounts(ctx, keys, need)
	}
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// accounts are devices with names that nobody else has, two to a user.
func accounts(ctx context.Context, keys *auth.Keystore, n int) ([]load.Account, error) {
	run := strconv.FormatInt(time.Now().UnixMicro(), 36)
	all := make([]load.Account, n)
	for i := range all {
		name := load.Name{User: fmt.Sprintf("bench-%s-%d", run, i/2), Device: "left"}
		if i%2 == 1 {
			name.Device = "right"
		}
		address := subjects.Address{User: subjects.UserID(name.User), Device: subjects.DeviceID(name.Device)}
		cred, err := keys.IssueDevice(address, auth.DeviceOptions{Bearer: true, Expires: tokensLast})
		if err != nil {
			return nil, err
		}
		if all[i] = (load.Account{Name: name, Token: cred.JWT}); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// readTokens reads lines of USER/DEVICE and a token. Only whole pairs of a
// user's devices are taken, side by side.
func readTokens(path string) ([]load.Account, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--tokens: %w", err)
	}
	defer func() { _ = file.Close() }()
	of := make(map[string][]load.Account)
	var users []string
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		if lines.Text() == "" {
			continue
		}
		i := strings.LastIndexByte(lines.Text(), ' ') // a name may hold spaces
		address, err := subjects.ParseAddress(lines.Text()[:max(i, 0)])
		if err != nil || i < 0 {
			return nil, fmt.Errorf("--tokens %s, line %d: want USER/DEVICE and a token, as 'rccs creds device --bearer -' prints them", path, n)
		}
		name := load.Name{User: string(address.User), Device: string(address.Device)}
		if of[name.User] == nil {
			users = append(users, name.User)
		}
		of[name.User] = append(of[name.User], load.Account{Name: name, Token: lines.Text()[i+1:]})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--tokens %s: %w", path, err)
	}
	var all []load.Account
	for _, user := range users {
		all = append(all, of[user][:len(of[user])/2*2]...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--tokens %s: no user has two devices in it: want pairs, such as bench-1/left and bench-1/right", path)
	}
	return all, nil
}
