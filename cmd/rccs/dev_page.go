package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load its own files and talk to an edge, which has a
// port of its own.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// devPage is the demo page of 'rccs dev'. It stands for a web application's own
// backend: it gives the page a token for a device. Whoever has the key, which is
// in the address and the QR code and nowhere else, gets one.
type devPage struct {
	key      string
	listener net.Listener
	server   *http.Server

	// Set before the first request.
	node *node.Node
}

// openDevPage listens, so that the page's origin is known before the edge is
// started.
func openDevPage(host string) (*devPage, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // at once
	if err != nil {
		return nil, fmt.Errorf("--host %s: %w", host, err)
	}
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	p := &devPage{key: rand.Text()[:16], listener: listener}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", p.token)
	mux.Handle("GET /", http.FileServerFS(files))
	p.server = &http.Server{Handler: pageHeaders(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	return p, nil
}

func pageHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// serve answers until close.
func (p *devPage) serve() error {
	if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// close ends the page. It may be called without serve.
func (p *devPage) close() { _ = errors.Join(p.server.Close(), p.listener.Close()) }

// port is that of a listener.
func port(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// origins are those that the page may be opened under.
func (p *devPage) origins(host string) []string {
	var all []string
	for _, name := range []string{host, "localhost", "127.0.0.1"} {
		all = append(all, "http://"+net.JoinHostPort(name, port(p.listener.Addr())))
	}
	return all
}

// address is the page's URL. It has the key in its fragment, which a browser sends
// to no server, so no log has it.
func (p *devPage) address(host string) string {
	return "http://" + net.JoinHostPort(host, port(p.listener.Addr())) + "/#" + p.key
}

// pageDevice matches the device names that a page may take.
var pageDevice = regexp.MustCompile(`^page-[0-9a-f]{4}$`)

// token gives a page its credential, and says where the edge is.
func (p *devPage) token(w http.ResponseWriter, r *http.Request) {
	device := r.URL.Query().Get("device")
	switch {
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Key")), []byte(p.key)) != 1:
		http.Error(w, "This address is of an earlier run: take the one that 'rccs dev' prints now", http.StatusForbidden)
		return
	case !pageDevice.MatchString(device):
		http.Error(w, "want ?device=page-0123", http.StatusBadRequest)
		return
	}
	a := subjects.Address{User: devUser, Device: subjects.DeviceID(device)}
	cred, err := p.node.Keys().IssueDevice(a, auth.DeviceOptions{Bearer: true, Type: "browser", Expires: auth.DefaultExpiry})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	edge, _ := strconv.Atoi(port(p.node.Addr()))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"user": a.User, "token": cred.JWT, "port": edge})
}

// networkHost is the address of this machine in its own network, where a phone
// can reach it: a private one only. It is 127.0.0.1 where there is none. Nothing
// is sent: the system is asked which address it would send from.
func networkHost(ctx context.Context) string {
	const loopback = "127.0.0.1"
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp4", "192.0.2.1:9") // an address for documentation (RFC 5737)
	if err != nil {
		return loopback
	}
	defer func() { _ = conn.Close() }()
	from, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok || !from.IP.IsPrivate() {
		return loopback
	}
	return from.IP.String()
}
