package main

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/tlsfiles"
)

// transportFlags say how a process that serves is reached.
type transportFlags struct {
	tls, adminTLS tlsfiles.Files
	token         string
	origins       []string
}

func (f *transportFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.tls.Cert, "tls-cert", "", "`file` of the certificate chain (PEM) for devices; it is read again when it changes")
	flags.StringVar(&f.tls.Key, "tls-key", "", "`file` of the private key of --tls-cert")
	flags.StringVar(&f.tls.ClientCA, "tls-client-ca", "", "`file` of the CAs (PEM) that must have signed the certificates of devices, or of a proxy")
	flags.Var(originList{&f.origins}, "allow-origin", "an `origin` whose web pages may connect, beside the edge's own: https://app.example.com, https://*.example.com, vscode-webview://*, null, file://, or * for all; may be repeated")
	f.addAdmin(flags)
}

// addAdmin adds what is about operators.
func (f *transportFlags) addAdmin(flags *pflag.FlagSet) {
	flags.StringVar(&f.adminTLS.Cert, "admin-tls-cert", "", "`file` of the certificate chain (PEM) of the admin address")
	flags.StringVar(&f.adminTLS.Key, "admin-tls-key", "", "`file` of the private key of --admin-tls-cert")
	flags.StringVar(&f.token, "admin-token-file", "", "`file` of the token that the admin address asks for; needed where that is not on a loopback address")
}

func (f *transportFlags) options() node.Transport {
	return node.Transport{TLS: f.tls, Origins: f.origins, AdminTLS: f.adminTLS, AdminTokenFile: f.token}
}

// scheme is that of a URL, with TLS where there are files for it.
func (*transportFlags) scheme(plain string, files tlsfiles.Files) string {
	if files.Given() {
		return plain + "s"
	}
	return plain
}

// originList is names that are origins.
type originList struct{ all *[]string }

// String implements pflag.Value.
func (o originList) String() string { return names(o).String() }

// Type implements pflag.Value.
func (originList) Type() string { return "string" }

// Set implements pflag.Value.
func (o originList) Set(s string) error {
	var list []string
	if err := (names{&list}).Set(s); err != nil {
		return err
	}
	for _, origin := range list {
		if err := edge.CheckOrigin(origin); err != nil {
			return err
		}
	}
	*o.all = append(*o.all, list...)
	return nil
}

// hangups turns SIGHUP into requests to read files again. When the signal came
// because the terminal is gone, the context ends instead, as it would for a
// program that does not know the signal.
func (env *environment) hangups(ctx context.Context) (context.Context, <-chan struct{}) {
	if env.hangup == nil {
		return ctx, nil
	}
	signals := make(chan os.Signal, 1)
	env.hangup(signals)
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan struct{}, 1)
	terminal := env.terminal()
	go func() {
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			if terminal && !env.terminal() {
				return
			}
			select {
			case asked <- struct{}{}:
			default: // asked already
			}
		}
	}()
	return ctx, asked
}
