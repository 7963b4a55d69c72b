package main

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
)

// tlsFlags say how NATS servers with TLS are spoken to.
type tlsFlags struct {
	ca, cert, key string
}

func (f *tlsFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.ca, "server-ca", "", "`file` of the CAs (PEM) that may have signed the NATS server's certificate; default: the system's")
	flags.StringVar(&f.cert, "server-cert", "", "`file` of a certificate (PEM) to show to a NATS server that asks for one")
	flags.StringVar(&f.key, "server-key", "", "`file` of the private key of --server-cert")
}

// reach is the same for nats.go. The files are read at
// each connect, so that renewed ones count.
func (f *tlsFlags) reach() ([]nats.Option, error) {
	var opts []nats.Option
	if f.ca != "" {
		opts = append(opts, nats.RootCAs(f.ca))
	}
	if (f.cert == "") != (f.key == "") {
		return nil, usageError{errors.New("--server-cert and --server-key are needed together")}
	}
	if f.cert != "" {
		opts = append(opts, nats.ClientCert(f.cert, f.key))
	}
	return opts, nil
}

// hostPort is an address without a scheme, which NATS takes as well. It has no
// place for a secret.
var hostPort = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// shown is a list of URLs without what may be secret in them.
func shown(urls string) string {
	all := strings.Split(urls, ",")
	for i, text := range all {
		text = strings.TrimSpace(text)
		if hostPort.MatchString(text) {
			all[i] = text
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Opaque != "" {
			all[i] = "(not a URL)"
			continue
		}
		if u.User != nil {
			u.User = url.User("xxxxx") // NATS takes a token in the place of the name
		}
		if u.RawQuery != "" {
			u.RawQuery = "xxxxx"
		}
		all[i] = u.String()
	}
	return strings.Join(all, ",")
}
