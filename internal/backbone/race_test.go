package backbone_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Services of a server that was killed come back while it starts. The first of
// them must not have nats-server load an account that
// [backbone.Server.UpdateAccount] stores a later JWT of at that moment.
func TestAnAccountIsUpdatedWhileItsClientsComeBack(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	user, _ := trust.user(t)
	long := *trust.tenantClaims
	for n := range 2_000 { // so that it takes a moment to load
		long.RevokeAt(fmt.Sprintf("U%055d", n), time.Now())
	}
	stored := signAt(t, trust.operator, &long, time.Now().Add(-time.Hour))
	for range 30 {
		opts := trust.options(t.TempDir())
		opts.Accounts = []string{trust.systemJWT}
		opts.Derived = []string{stored}
		s := start(t, opts)
		back := make(chan *nats.Conn)
		go func() {
			nc, _ := nats.Connect("", user, s.InProcess())
			back <- nc
		}()
		err := s.UpdateAccount(trust.tenantJWT)
		(<-back).Close()
		stop(t, s)
		if err != nil {
			t.Fatal(err)
		}
	}
}
