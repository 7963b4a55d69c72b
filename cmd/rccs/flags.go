package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/timespec"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// checked is a text flag that is checked when it is set, so that the error
// names the flag or the variable that was wrong.
type checked struct {
	text  *string
	check func(string) error
}

// String implements pflag.Value.
func (c checked) String() string { return *c.text }

// Type implements pflag.Value.
func (checked) Type() string { return "string" }

// Set implements pflag.Value.
func (c checked) Set(s string) error {
	if err := c.check(s); err != nil {
		return err
	}
	*c.text = s
	return nil
}

// names is a flag that may be given several times, or hold several names with
// commas between.
type names struct{ all *[]string }

// String implements pflag.Value.
func (n names) String() string {
	if n.all == nil {
		return "" // the zero value, which pflag compares with
	}
	return strings.Join(*n.all, ",")
}

// Type implements pflag.Value.
func (names) Type() string { return "string" }

// Set implements pflag.Value.
func (n names) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return errors.New("want names with commas between")
		}
		*n.all = append(*n.all, name)
	}
	return nil
}

func checkedVar(flags *pflag.FlagSet, text *string, name, value, usage string, check func(string) error) {
	*text = value
	flags.Var(checked{text: text, check: check}, name, usage)
}

func checkMessageType(s string) error {
	if !wire.ValidType(s) {
		return errors.New("want a lower-case letter, then letters, digits, '_', '.' or '-', 64 at most")
	}
	return nil
}

// parseSince reads where a topic begins; "" is now.
func parseSince(s string) (wire.Since, error) {
	if s == "" {
		return wire.Since{}, nil
	}
	if s == "last" {
		return wire.Since{Kind: wire.SinceLast}, nil
	}
	if seq, err := strconv.ParseUint(s, 10, 63); err == nil {
		return wire.Since{Kind: wire.SinceSeq, Seq: seq}, nil
	}
	if at, err := timespec.SinceWords(s, time.Now()); err == nil {
		return wire.Since{Kind: wire.SinceTime, Time: at}, nil
	}
	return wire.Since{}, errors.New("want the seq of a message, last, " + timespec.WordForms)
}

func checkSince(s string) error {
	_, err := parseSince(s)
	return err
}

func checkMessageID(s string) error {
	if !wire.ValidID(s) {
		return errors.New("want 1 to 128 printable bytes without space at the ends")
	}
	return nil
}

func checkLane(s string) error {
	if _, ok := subjects.ParseLane(s); !ok {
		return errors.New("want low, normal, high or critical")
	}
	return nil
}

// checkEdge takes the URL of an edge.
func checkEdge(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains([]string{"ws", "wss", "http", "https"}, u.Scheme) {
		return errors.New("want ws://HOST:PORT or wss://HOST")
	}
	return nil
}

// checkCommon looks at what was given for flags that many commands have: a URL
// that is none, or a file that is not there, is told by the name of its flag, and
// not by what comes of it.
func checkCommon(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if err != nil || value == "" {
			return
		}
		var wrong error
		switch f.Name {
		case "url":
			wrong = checkEdge(value)
		case "server", "cluster":
			wrong = checkServers(value)
		case "admin":
			if u, e := url.Parse(value); e != nil || u.Host == "" {
				wrong = errors.New("want http://HOST:PORT")
			}
		case "server-ca", "server-cert", "server-key":
			if _, e := os.ReadFile(value); e != nil {
				err = fmt.Errorf("--%s: %w", f.Name, e)
			}
		}
		if wrong != nil {
			err = usageError{fmt.Errorf("--%s %s: %w", f.Name, shown(value), wrong)}
		}
	})
	return err
}

// checkServers takes the URLs of NATS servers, separated by commas. The scheme
// and the port may be left out.
func checkServers(s string) error {
	for text := range strings.SplitSeq(s, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || strings.Trim(u.Hostname(), ":") == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New("want nats://HOST:PORT, or several, separated by commas")
		}
	}
	return nil
}

// checkDeviceType takes what a device may say that it is, and nothing at all.
func checkDeviceType(s string) error {
	if s == "" {
		return nil
	}
	return subjects.CheckName("type", s)
}

// checkAddress takes HOST:PORT, and nothing at all.
func checkAddress(s string) error {
	if s == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("want HOST:PORT, such as 127.0.0.1:8080")
	}
	return nil
}

// startWait is how long a process waits at its start.
const startWait = 10 * time.Minute

func addStartWait(flags *pflag.FlagSet, d *time.Duration) {
	flags.DurationVar(d, "start-wait", startWait,
		"how long a start waits for what it needs: NATS servers, their streams, room on the disk; 0: for ever")
}

func addStopWithin(flags *pflag.FlagSet, d *within) {
	*d = within(node.DefaultStopWithin)
	flags.Var(d, "stop-within",
		"how long a stop may take before it is given up with status 1; less than what ends the process then (docker stop: 10s)")
}
