package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mdp/qrterminal/v3"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

type codeFlags struct {
	target
	user, device, kind, url string
	expires                 duration
}

func newEnrollCodeCommand(env *environment) *cobra.Command {
	f := codeFlags{expires: duration(enroll.DefaultCodeLife)}
	cmd := &cobra.Command{
		Use:   "code",
		Short: "Make a one-time code for a user's device",
		Long: `Make a code that enrols one device of a user, once: typed in, or read as the QR
code that is printed too. The QR code holds rccs:enroll?code=…, with the user,
and with --url the edge to connect to.`,
		Example: `  rccs enroll code --user alice
  rccs enroll code --user alice --device phone --type mobile --expires 1h
  rccs enroll code --user alice --url wss://edge.example.com --json`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.enrollCode(cmd.Context(), &f) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.user, "user", "", "`name` of the user")
	flags.StringVar(&f.device, "device", "", "`name` that the device must take (default: it chooses)")
	flags.StringVar(&f.kind, "type", "", "device `type`, such as mobile or desktop; it wins over what the device says")
	flags.StringVarP(&f.url, "url", "u", "", "`URL` of an edge, for the QR code")
	flags.Var(&f.expires, "expires", "how long the code is good, such as 10m; a day at most")
	return cmd
}

var errNoOperator = errors.New("no answer: is the credential an operator's? Name the installation's keys with --data, or make one with 'rccs creds part'")

// codeTimeout bounds the making of a code.
const codeTimeout = 10 * time.Second

func (f *codeFlags) check() error {
	switch {
	case f.user == "":
		return usageError{errors.New("--user is needed: whose device it is to be")}
	case time.Duration(f.expires) > enroll.MaxCodeLife:
		return usageError{fmt.Errorf("--expires: a code is good for %s at most", enroll.MaxCodeLife)}
	}
	a := subjects.Address{User: subjects.UserID(f.user), Device: "any"}
	if err := a.Check(); err != nil {
		return usageError{fmt.Errorf("--user: %w", err)}
	}
	if a.Device = subjects.DeviceID(f.device); f.device != "" && a.Check() != nil {
		return usageError{fmt.Errorf("--device: %w", a.Check())}
	}
	return nil
}

func (env *environment) enrollCode(ctx context.Context, f *codeFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	dial, err := env.dialer(&f.target)
	if err != nil {
		return err
	}
	nc, err := dial()
	if err != nil {
		return err
	}
	defer nc.Close()
	body, err := json.Marshal(enroll.Code{
		User: f.user, Device: f.device, Type: f.kind, Seconds: int(time.Duration(f.expires) / time.Second),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, codeTimeout)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	var code []byte
	err = audit.Do(ctx, js, act(audit.ActionEnroll, f.user, "code"), func() (err error) {
		code, err = askCode(ctx, nc, body)
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return errNoOperator
	} else if err != nil {
		return err
	}
	return env.printCode(f, code)
}

// askCode has a coordinator make a code.
func askCode(ctx context.Context, nc *nats.Conn, body []byte) ([]byte, error) {
	answer, err := nc.RequestWithContext(ctx, layout.PartEndpoint(enroll.EndpointCode), body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, errors.New("nobody who can sign credentials runs there: start 'rccs serve'")
	case err != nil:
		return nil, err
	}
	if answer.Header.Get("Nats-Service-Error") != "" {
		told, err := wire.DecodeError(answer.Data)
		if err != nil {
			return nil, err
		}
		return nil, audit.Refused(told)
	}
	return answer.Data, nil
}

func (env *environment) printCode(f *codeFlags, answer []byte) error {
	var c enroll.Code
	if err := json.Unmarshal(answer, &c); err != nil {
		return fmt.Errorf("the answer is not a code: %w", err)
	}
	link := c.Link(f.url, env.tenant)
	if f.json {
		text, err := json.Marshal(struct {
			enroll.Code
			Link string `json:"link"`
		}{c, link})
		if err != nil {
			return err
		}
		return env.printf("%s\n", text)
	}
	var qr bytes.Buffer
	qrterminal.GenerateHalfBlock(link, qrterminal.M, &qr)
	return env.printf("%s\n%s\n\nfor a device of %s, once, until %s\n", qr.String(), c.Code, c.User, c.Expires.Format(time.RFC3339))
}
