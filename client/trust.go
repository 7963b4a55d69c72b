package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// trust is the TLS configuration of the next connection.
func (o *Options) trust() (*tls.Config, error) {
	if o.CAFile == "" {
		return o.TLS, nil
	}
	text, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("client: Options.CAFile: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("client: Options.CAFile: %s holds no certificate in PEM", o.CAFile)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	config.RootCAs = pool
	return config, nil
}
