package tlsfiles

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rccs-io/rccs/internal/private"
)

// Files name what a listener identifies itself with, in PEM.
type Files struct {
	// Cert holds the certificate, and behind it those that lead to a root.
	Cert string
	// Key is the private key of the first certificate.
	Key string
	// ClientCA, where given, holds the certificates that those of clients must
	// lead to: then a client without one is refused.
	ClientCA string
}

// Given reports whether there are any.
func (f Files) Given() bool { return f.Cert != "" || f.Key != "" || f.ClientCA != "" }

// maxFile is far above any bundle of certificates.
const maxFile = 4 << 20

// content is what the files held at one moment.
type content struct {
	cert, key, clientCA []byte
}

func (f Files) read() (content, error) {
	var c content
	for _, file := range []struct {
		path string
		to   *[]byte
	}{{f.Cert, &c.cert}, {f.Key, &c.key}, {f.ClientCA, &c.clientCA}} {
		if file.path == "" {
			continue
		}
		if file.to == &c.key {
			if err := private.Check(file.path); err != nil {
				return content{}, err
			}
		}
		var err error
		if *file.to, err = readBounded(file.path); err != nil {
			return content{}, err
		}
	}
	return c, nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is over %d bytes: it is no certificate", path, maxFile)
	}
	return text, nil
}

// sum tells contents apart without keeping them.
func (c content) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{c.cert, c.key, c.clientCA} {
		one := sha256.Sum256(part)
		h.Write(one[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// parse makes a certificate and a pool of what the files held. Errors name the
// file, and what to do.
func (f Files) parse(c content) (*tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, nil, fmt.Errorf("%s and %s: %w (want a certificate chain and its private key, both PEM)", f.Cert, f.Key, err)
	}
	if f.ClientCA == "" {
		return &pair, nil, nil
	}
	pool, err := parsePool(c.clientCA)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.ClientCA, err)
	}
	return &pair, pool, nil
}

func parsePool(text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----")) || !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in it (want PEM that begins with -----BEGIN CERTIFICATE-----)")
	}
	return pool, nil
}
