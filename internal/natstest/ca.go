package natstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA signs certificates for tests. They last an hour.
type CA struct {
	tb   testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// File holds the CA's certificate.
	File string
}

// NewCA makes a certificate authority that nobody but the test trusts.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	ca := &CA{tb: tb, dir: tb.TempDir()}
	template := ca.template("test CA")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	ca.key = ca.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	ca.check(err)
	ca.cert, err = x509.ParseCertificate(der)
	ca.check(err)
	ca.File = filepath.Join(ca.dir, "ca.pem")
	ca.write(ca.File, "CERTIFICATE", der)
	return ca
}

// Pool trusts this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Files makes a certificate for name and for this machine's loopback
// addresses, and returns the files of it and its key, which are the same for
// each certificate of the name: a new one replaces it.
func (ca *CA) Files(name string) (cert, key string) {
	ca.tb.Helper()
	pair := ca.newKey()
	template := ca.template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, pair.Public(), ca.key)
	ca.check(err)
	text, err := x509.MarshalPKCS8PrivateKey(pair)
	ca.check(err)
	cert, key = filepath.Join(ca.dir, name+".pem"), filepath.Join(ca.dir, name+".key")
	ca.write(cert, "CERTIFICATE", der)
	ca.write(key, "PRIVATE KEY", text)
	return cert, key
}

// Pair is a certificate for name, with its key.
func (ca *CA) Pair(name string) tls.Certificate {
	ca.tb.Helper()
	pair, err := tls.LoadX509KeyPair(ca.Files(name))
	ca.check(err)
	return pair
}

func (ca *CA) template(name string) *x509.Certificate {
	ca.tb.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	ca.check(err)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
}

func (ca *CA) newKey() *ecdsa.PrivateKey {
	ca.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca.check(err)
	return key
}

func (ca *CA) write(path, kind string, der []byte) {
	ca.tb.Helper()
	ca.check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (ca *CA) check(err error) {
	ca.tb.Helper()
	if err != nil {
		ca.tb.Fatal(err)
	}
}
