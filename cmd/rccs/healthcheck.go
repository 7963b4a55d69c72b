package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxHealthAnswer bounds what is read of an answer; it is one line.
const maxHealthAnswer = 4 << 10

type healthcheckFlags struct {
	adminListen string
	tlsCert     string
	live        bool
	timeout     time.Duration
}

func newHealthcheckCommand(env *environment) *cobra.Command {
	var f healthcheckFlags
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the rccs on this machine whether it is ready",
		Long: `Ask the admin address of a serve, edge or coordinator whether it is ready, and
end with status 0 if so. It is meant for containers, which have no curl: it
takes the same flags and variables as the process it asks.`,
		Example: `  rccs healthcheck
  rccs healthcheck --admin-listen 127.0.0.1:9081
  rccs healthcheck --live              # only: does the process answer?`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.healthcheck(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.adminListen, "admin-listen", "127.0.0.1:8081", "the `address` for health and metrics of the process")
	flags.StringVar(&f.tlsCert, "admin-tls-cert", "", "`file` of the certificate chain (PEM) of the admin address, if it has TLS")
	flags.BoolVar(&f.live, "live", false, "ask whether the process answers at all (/healthz), not whether it is ready (/readyz)")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Second, "how long to wait for the answer")
	return cmd
}

func (env *environment) healthcheck(ctx context.Context, f *healthcheckFlags) error {
	host, port, err := net.SplitHostPort(f.adminListen)
	if err != nil || port == "" || port == "0" {
		return usageError{fmt.Errorf("--admin-listen %q: want HOST:PORT, as the process was given it", f.adminListen)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if f.tlsCert != "" {
		scheme = "https"
		if transport.TLSClientConfig, err = trustOnly(f.tlsCert); err != nil {
			return fmt.Errorf("--admin-tls-cert: %w", err)
		}
	}
	path := "/readyz"
	if f.live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("no answer from %s: %w (is it running? another address: --admin-listen)", f.adminListen, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthAnswer))
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", text)
	}
	return env.printf("%s\n", text)
}

// trustOnly is for a server that shows the certificate in the file, whatever
// host it is asked under: the process on this machine.
func trustOnly(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("there is no certificate in " + file)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	name := leaf.Subject.CommonName
	switch {
	case len(leaf.DNSNames) > 0:
		name = leaf.DNSNames[0]
	case len(leaf.IPAddresses) > 0:
		name = leaf.IPAddresses[0].String()
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: name}, nil
}
