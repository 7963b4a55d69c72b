package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/private"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

type enrollFlags struct {
	url, ca, code, token, device, out string
	json                              bool
}

const (
	edgeURL = "ws://127.0.0.1:8080/v1/ws"
	caUsage = "`file` of the CAs (PEM) that may have signed the edge's certificate; default: the system's"
)

func newEnrollCommand(env *environment) *cobra.Command {
	var f enrollFlags
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Get a device its credential by a code",
		Long: `Be a device that has no credential yet: make a key, which stays here, and have
the server sign a credential for it, by a one-time code from 'rccs enroll code'
or by an identity token of an issuer that the server trusts. The .creds file is
for 'rccs connect --creds', which renews it by itself.`,
		Example: `  rccs enroll --code ABCD-EFGH --device phone --out phone.creds
  rccs enroll --token-file id.jwt --device phone --out phone.creds
  rccs connect alice/phone --creds phone.creds`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.enroll(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.url, "url", "u", edgeURL, "`URL` of an edge")
	flags.StringVar(&f.ca, "ca", "", caUsage)
	flags.StringVar(&f.code, "code", "", "one-time `code`")
	flags.StringVar(&f.token, "token-file", "", "`file` with an identity token, instead of a code")
	flags.StringVar(&f.device, "device", "", "`name` of the device; may be left out when the code names it")
	flags.StringVar(&f.out, "out", "", "`file` for the credential, which must not be there yet")
	flags.BoolVarP(&f.json, "json", "j", false, "print JSON")
	cmd.AddCommand(newEnrollCodeCommand(env), newEnrollRenewCommand(env))
	return cmd
}

// check finds bad usage before a code is spent on it.
func (f *enrollFlags) check() error {
	switch {
	case (f.code == "") == (f.token == ""):
		return usageError{errors.New("one claim is needed: --code or --token-file")}
	case f.out == "":
		return usageError{errors.New("--out is needed: the file for the credential")}
	case f.device == "" && f.token != "":
		return usageError{errors.New("--device is needed: the name of this device")}
	}
	if f.device != "" {
		if err := subjects.CheckDevice(subjects.DeviceID(f.device)); err != nil {
			return usageError{fmt.Errorf("--device: %w", err)}
		}
	}
	if _, err := os.Lstat(f.out); err == nil {
		return fmt.Errorf("--out %s is there already: 'rccs enroll renew' renews a credential; move the file away to enrol anew", f.out)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--out: %w", err)
	}
	probe, err := os.CreateTemp(filepath.Dir(f.out), ".creds-*")
	if err != nil {
		return fmt.Errorf("--out: %w", private.About(f.out, err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func (env *environment) enroll(ctx context.Context, f *enrollFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if _, err := edgeTrust(f.ca); err != nil {
		return err
	}
	claim := client.Claim{Code: f.code}
	if env.tenant != auth.DefaultTenant {
		claim.Tenant = env.tenant
	}
	if f.token != "" {
		text, err := os.ReadFile(f.token)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		claim.Token = strings.TrimSpace(string(text))
	}
	creds, err := client.Enroll(ctx, f.url, subjects.DeviceID(f.device), claim, &client.EnrollOptions{CAFile: f.ca})
	if err != nil {
		return explainEnroll(f.url, err)
	}
	if err := client.WriteCreds(f.out, creds); err != nil {
		return err
	}
	return env.enrolled(creds, f.out, "enrolled", f.json)
}

// enrolled says what a new credential is.
func (env *environment) enrolled(creds []byte, file, done string, asJSON bool) error {
	cred, err := auth.ParseCredential(creds)
	if err != nil {
		return err
	}
	name, expires, err := cred.Holder()
	if err != nil {
		return err
	}
	return env.answer(asJSON, map[string]any{"device": name, "expiresAt": expires, "file": file}, "%s: %s, until %s: %s\n", done, name, expires.Format(time.RFC3339), file)
}

// explainEnroll says what can be done about a refusal.
func explainEnroll(url string, err error) error {
	if told, ok := errors.AsType[*wire.Error](err); ok {
		if told.RetryAfter > 0 {
			return fmt.Errorf("%s refused: %w (again in %s)", url, err, told.RetryAfter.Round(time.Second))
		}
		return fmt.Errorf("%s refused: %w", url, err)
	}
	return fmt.Errorf("%w (is 'rccs serve' running there? another address: --url)", err)
}

func newEnrollRenewCommand(env *environment) *cobra.Command {
	var url, ca, file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew the credential of an enrolled device",
		Long: `Have the server sign the next credential for the key of one that 'rccs enroll'
made, and replace the file. It works for some time after the credential has
expired, too. 'rccs connect --creds' does so by itself.`,
		Example: `  rccs enroll renew --creds phone.creds`,
		Args:    arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("--creds is needed: the file to renew")}
			}
			return env.renew(cmd.Context(), url, ca, file, asJSON)
		},
	}
	cmd.Flags().StringVarP(&url, "url", "u", edgeURL, "`URL` of an edge")
	cmd.Flags().StringVar(&ca, "ca", "", caUsage)
	cmd.Flags().StringVar(&file, "creds", "", "the device's credentials `file`, which is replaced")
	cmd.Flags().BoolVarP(&asJSON, "json", "j", false, "print JSON")
	return cmd
}

func (env *environment) renew(ctx context.Context, url, ca, file string, asJSON bool) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--creds: %w", err)
	}
	if _, err := auth.ParseCredential(old); err != nil {
		return notCreds(file, err)
	}
	if _, err := edgeTrust(ca); err != nil {
		return err
	}
	fresh, err := client.Renew(ctx, url, old, &client.EnrollOptions{CAFile: ca})
	if err != nil {
		return explainEnroll(url, err)
	}
	if err := client.WriteCreds(file, fresh); err != nil {
		return err
	}
	return env.enrolled(fresh, file, "renewed", asJSON)
}
