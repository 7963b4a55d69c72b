package main

import (
	"net"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestHealthcheckIsWhatReadyzSays(t *testing.T) {
	t.Parallel()
	i := serve(t)
	at := strings.TrimPrefix(i.admin, "http://")
	testkit.Eventually(t, "it is ready", func() bool { // on a busy machine it is not for moments
		return i.console().run(t, "healthcheck", "--timeout", patient, "--admin-listen", at).status == exitOK
	})
	i.console().succeed(t, "healthcheck", "--timeout", patient, "--live", "--admin-listen", at)
	// What a container is given for `serve` serves here too.
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is ready", func() bool {
		return console{vars: map[string]string{"RCCS_ADMIN_LISTEN": "0.0.0.0:" + port}}.run(t, "healthcheck", "--timeout", patient).status == exitOK
	})

	i.stop()
	i.console().run(t, "healthcheck", "--admin-listen", at).refused(t, exitFailed, "no answer from "+at)
	console{}.run(t, "healthcheck", "--admin-listen", "8081").refused(t, exitUsage, "--admin-listen", "HOST:PORT")
}

func TestHealthcheckTrustsTheCertificateOfTheProcess(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("server")
	r := console{}.start(t, "serve", "--data", t.TempDir(), "--listen", "", "--nats-listen", "", "--admin-listen", "127.0.0.1:0",
		"--admin-tls-cert", cert, "--admin-tls-key", key)
	at := strings.TrimPrefix(r.await(`^admin +(https://\S+)$`)[1], "https://")
	testkit.Eventually(t, "it is ready", func() bool {
		return console{}.run(t, "healthcheck", "--timeout", patient, "--admin-listen", at, "--admin-tls-cert", cert).status == exitOK
	})
	other, _ := ca.Files("operator")
	console{}.run(t, "healthcheck", "--admin-listen", at, "--admin-tls-cert", other, "--timeout", patient).refused(t, exitFailed, "certificate")
	console{}.run(t, "healthcheck", "--admin-listen", at, "--admin-tls-cert", key).refused(t, exitFailed, "no certificate in "+key)
}
