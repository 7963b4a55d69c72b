package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/internal/tlsfiles"
)

// Transport says how a process is reached. The zero value is for one machine,
// or for one behind a proxy that does the rest.
type Transport struct {
	// TLS is the certificate of the listener for devices; none: no TLS.
	TLS tlsfiles.Files
	// Origins are the web pages that may connect, beside the edge's own; "*"
	// is all.
	Origins []string
	// AdminTLS is the certificate of the admin listener; none: no TLS.
	AdminTLS tlsfiles.Files
	// AdminTokenFile holds the token that the admin listener asks for. Needed
	// where that is not on a loopback address.
	AdminTokenFile string
}

func (t *Transport) validate(adminListen string) error {
	if adminListen != "" && !loopback(adminListen) && t.AdminTokenFile == "" {
		return fmt.Errorf("node: the admin address %s can be reached from other machines and has no token: give one with --admin-token-file, or keep it to this machine with --admin-listen 127.0.0.1:8081", adminListen)
	}
	for _, l := range t.listeners() {
		if !l.files.Given() {
			continue
		}
		if l.files.Cert == "" || l.files.Key == "" {
			return fmt.Errorf("node: %s are needed together", l.flags)
		}
		// Before anything is started, or it would be told after a long start.
		if _, err := tlsfiles.Open(tlsfiles.Options{Files: l.files}); err != nil {
			return fmt.Errorf("node: TLS of the %s listener: %w (%s)", l.name, err, l.flags)
		}
	}
	if t.AdminTokenFile != "" {
		if _, err := openToken(t.AdminTokenFile, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
	}
	return nil
}

// listener is one that may have a certificate. flags name its files for people.
type listener struct {
	name, flags string
	files       tlsfiles.Files
}

func (t *Transport) listeners() [2]listener { return [2]listener{t.edge(), t.admin()} }

func (t *Transport) edge() listener {
	return listener{"edge", "--tls-cert and --tls-key", t.TLS}
}

func (t *Transport) admin() listener {
	return listener{"admin", "--admin-tls-cert and --admin-tls-key", t.AdminTLS}
}

// loopback reports whether an address to listen on can be reached from this
// machine only. A name other than localhost may mean anything tomorrow.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// openTLS reads the files of a listener's certificate; without any, both
// results are nil.
func openTLS(l listener, reg prometheus.Registerer, log *slog.Logger) (*tlsfiles.Store, error) {
	if !l.files.Given() {
		return nil, nil
	}
	store, err := tlsfiles.Open(tlsfiles.Options{Files: l.files, Name: l.name, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("node: TLS of the %s listener: %w (%s)", l.name, err, l.flags)
	}
	if reg != nil {
		labels := prometheus.Labels{"listener": l.name}
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "rccs_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use ends, Unix time.", ConstLabels: labels,
			}, func() float64 { return float64(store.Ends().Unix()) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "rccs_tls_reload_failures_total", Help: "Times that changed TLS files could not be used.", ConstLabels: labels,
			}, func() float64 { return float64(store.Failures()) }),
		)
	}
	return store, nil
}

// reread calls reload whenever it is asked to, until ctx ends.
func reread(ctx context.Context, asked <-chan struct{}, reload func() error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			_ = reload() // it is logged
		}
	}
}

// reloadTLS reads the files of listeners that have any.
func reloadTLS(stores ...*tlsfiles.Store) error {
	var errs []error
	for _, s := range stores {
		if s != nil {
			errs = append(errs, s.Reload())
		}
	}
	return errors.Join(errs...)
}

// Reload reads the nats.conf and the files of certificates again. What cannot
// be used leaves what was in use, and is logged. Connections stay. Call it
// while started.
func (n *Node) Reload() error {
	err := n.server.Reload()
	if err != nil {
		n.opts.Logger.Error("nats.conf not applied: what was in use stays", "err", err)
	}
	return reloaded(n.opts.Logger, errors.Join(err, reloadTLS(n.edge.store(), n.admin.store())))
}

// Reload reads the files of certificates again. What cannot be used leaves
// what was in use, and is logged. Connections stay. Call it while started.
func (r *remote) Reload() error {
	p, _ := r.part.(remoteEdge) // without an edge in a coordinator
	return reloaded(r.opts.Logger, reloadTLS(p.store(), r.admin.store()))
}

func reloaded(log *slog.Logger, err error) error {
	if err == nil {
		log.Info("configuration and certificates read again")
	}
	return err
}

// store is that of the certificate; nil without TLS, or without the listener.
func (a *adminPart) store() *tlsfiles.Store {
	if a == nil {
		return nil
	}
	return a.tls
}

// store is likewise that of the listener for devices.
func (p *edgePart) store() *tlsfiles.Store {
	if p == nil {
		return nil
	}
	return p.tls
}
