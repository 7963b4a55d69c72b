package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/private"
	"github.com/rccs-io/rccs/subjects"
)

func newCredsCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "creds",
		Short: "Make credentials for devices and services",
		Long: `Make credentials. They are NATS credentials, made from the keys in the data
directory, whether or not the server runs; no server has to be told of them.`,
	})
	cmd.AddCommand(newCredsDeviceCommand(env), newCredsServiceCommand(env), newCredsPartCommand(env), newCredsSystemCommand(env))
	return cmd
}

func newCredsDeviceCommand(env *environment) *cobra.Command {
	var from keyFlags
	var opts auth.DeviceOptions
	expires := duration(auth.DefaultExpiry)
	cmd := &cobra.Command{
		Use:   "device USER/DEVICE",
		Short: "Make a device's credential",
		Long: `Print a credential for one device of one user: a .creds file as NATS clients
read it, or with --bearer the bare JWT, which is enough by itself to connect.

With --bearer and - as the name, read USER/DEVICE lines from standard input and
print a line "USER/DEVICE JWT" for each. A name may have spaces, a JWT has none:
split the line at its last space.`,
		Example: `  rccs creds device alice/phone > phone.creds
  rccs creds device alice/phone --type mobile --bearer --expires 30d
  rccs creds device --bearer - < devices.txt > tokens.txt`,
		Args: arguments(1, "USER/DEVICE, or - with --bearer"),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.Expires = time.Duration(expires)
			return env.deviceCreds(from, args[0], opts)
		},
	}
	flags := cmd.Flags()
	from.add(flags)
	flags.StringVar(&opts.Type, "type", "", "device `type`, such as mobile or desktop; it wins over what the device says")
	flags.BoolVar(&opts.Bearer, "bearer", false, "print a token that needs no signature")
	flags.Var(&expires, "expires", "how long it lasts, such as 12h or 30d")
	return cmd
}

// deviceCreds prints a credential, or a token for every line of standard input
// when the name is "-". Bad usage is found before keys are made.
func (env *environment) deviceCreds(from keyFlags, name string, opts auth.DeviceOptions) error {
	if err := checkDeviceType(opts.Type); err != nil {
		return usageError{fmt.Errorf("--type: %w", err)}
	}
	if err := opts.Check(); err != nil {
		return usageError{err}
	}
	if name == "-" {
		if !opts.Bearer {
			return usageError{errors.New("- reads many names and prints a token for each: add --bearer")}
		}
		keys, err := env.keysFor(from)
		if err != nil {
			return err
		}
		return env.tokens(keys, keys.RecordIssued(), opts)
	}
	address, err := subjects.ParseAddress(name)
	if err != nil {
		return usageError{err}
	}
	keys, err := env.keysFor(from)
	if err != nil {
		return err
	}
	cred, err := keys.IssueDevice(address, opts)
	if err != nil {
		return err
	}
	issued := keys.RecordIssued()
	issued.Add(address, opts)
	if err := issued.Flush(); err != nil {
		return err
	}
	if opts.Bearer {
		return env.printToken(cred)
	}
	return env.printCreds(cred)
}

func newCredsServiceCommand(env *environment) *cobra.Command {
	var from keyFlags
	var opts auth.ServiceOptions
	var expires duration
	cmd := &cobra.Command{
		Use:   "service NAME",
		Short: "Make a backend service's credential",
		Long: `Print a .creds file for a backend service: it may publish to inboxes, and do
what else services do, with any NATS client. With --bearer print the bare JWT,
which is enough by itself, over NATS and for the HTTP API.

With --may-issue the service may make credentials and enrolment codes for
devices, by the HTTP API: for a backend that signs its users in by itself.`,
		Example: `  rccs creds service billing > billing.creds
  rccs creds service web --bearer --may-issue --expires 90d > web.token
  nats --creds billing.creds pub rccs.inbox.alice.phone.normal '{"n":1}'`,
		Args: arguments(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := auth.CheckService(args[0]); err != nil {
				return usageError{err} // before keys are made
			}
			keys, err := env.keysFor(from)
			if err != nil {
				return err
			}
			opts.Expires = time.Duration(expires)
			cred, err := keys.IssueService(args[0], opts)
			if err != nil {
				return err
			}
			issued := keys.RecordIssued()
			issued.AddService(args[0], opts)
			if err := issued.Flush(); err != nil {
				return err
			}
			if opts.Bearer {
				return env.printToken(cred)
			}
			return env.printCreds(cred)
		},
	}
	flags := cmd.Flags()
	from.add(flags)
	flags.Var(&expires, "expires", "how long it lasts, such as 12h or 30d (default: for ever)")
	flags.BoolVar(&opts.Bearer, "bearer", false, "print a token that needs no signature")
	flags.BoolVar(&opts.MayIssue, "may-issue", false, "let it make credentials for devices, by the HTTP API")
	return cmd
}

// keyFlags are the flags of a command that makes credentials: where the
// installation's keys are, and whether and how they are made there.
type keyFlags struct {
	data   string
	init   bool
	shards shardCount
}

func (f *keyFlags) add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.data, "data", "d", "./data", "`directory` of the installation's keys")
	flags.BoolVar(&f.init, "init", false, "make the operator's keys where there is no data directory")
	flags.Var(&f.shards, "shards", "with --init: in how many shards users are divided, 1 to 64 (default 1)")
}

// keys opens the keys of an installation that exists.
func (env *environment) keys(data string) (*auth.Keystore, error) {
	return env.keysFor(keyFlags{data: data})
}

// keysFor opens the installation's keys, and makes them, with --init, where there
// is no data directory.
func (env *environment) keysFor(f keyFlags) (*auth.Keystore, error) {
	if _, err := os.Stat(f.data); errors.Is(err, fs.ErrNotExist) && !f.init {
		return nil, fmt.Errorf("there is no installation in %s: name its directory with --data, or add --init to make a new operator there", f.data)
	}
	if info, err := os.Stat(f.data); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("--data %s is not a directory", f.data)
	}
	keys, err := auth.OpenKeystoreWith(f.data, max(int(f.shards), 1))
	if err != nil {
		return nil, err
	}
	if err := keys.CheckShards(int(f.shards)); err != nil {
		return nil, err
	}
	if keys.Created() {
		_, _ = fmt.Fprintf(env.err, "rccs: made the operator's keys in %s\n", keys.Dir())
	}
	if env.tenant == "" || env.tenant == auth.DefaultTenant {
		return keys, nil
	}
	return keys.Tenant(env.tenant)
}

// printCreds prints a .creds file.
func (env *environment) printCreds(cred auth.Credential) error {
	text, err := cred.File()
	if err != nil {
		return err
	}
	if err := env.closeOutput(); err != nil {
		return err
	}
	_, err = env.out.Write(text)
	return err
}

// printToken prints a bearer token.
func (env *environment) printToken(cred auth.Credential) error {
	if err := env.closeOutput(); err != nil {
		return err
	}
	return env.printf("%s\n", cred.JWT)
}

// closeOutput is called before a credential is printed: where standard output is
// a file that others may read, as a shell makes it, it becomes its owner's alone.
func (env *environment) closeOutput() error {
	file, ok := fileOf(env.out)
	if !ok {
		return nil
	}
	return private.CloseFile(file)
}

// credentialOf reads the .creds file of --creds. It holds a key, and is refused
// when others may read it.
func credentialOf(path string) (auth.Credential, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = private.Check(path)
	}
	if err != nil {
		return auth.Credential{}, fmt.Errorf("--creds: %w", err)
	}
	cred, err := auth.ParseCredential(text)
	if err != nil {
		return auth.Credential{}, notCreds(path, err)
	}
	return cred, nil
}

// notCreds is the error about a file that holds no credential.
func notCreds(path string, err error) error {
	return fmt.Errorf("--creds %s: %w: want a file that 'rccs creds' or 'rccs enroll' has made", path, err)
}

// credsHint explains a refusal by the file of --creds: the credential has ended, or
// it belongs to somebody other than want, if that is given. It is "" when the file
// explains nothing.
func credsHint(path, want string) string {
	if path == "" {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	token, _, err := client.ParseCreds(text)
	if err != nil {
		return ""
	}
	name, expires, err := auth.Credential{JWT: token}.Holder()
	switch {
	case err != nil:
		return ""
	case want != "" && name != want:
		return fmt.Sprintf("--creds %s is the credential of %s", path, name)
	case !expires.IsZero() && time.Now().After(expires):
		return fmt.Sprintf("--creds %s ended at %s: make another one", path, expires.Format(time.RFC3339))
	}
	return ""
}

// maxLine bounds a line of standard input. The longest name has 257 bytes.
const maxLine = 4096

// tokens prints a token for every line of standard input, in its order. What
// was read is answered before more is waited for, so that it can be one end of
// a conversation.
func (env *environment) tokens(keys *auth.Keystore, issued *auth.Issued, opts auth.DeviceOptions) error {
	if err := env.closeOutput(); err != nil {
		return err
	}
	in := bufio.NewReaderSize(env.in, maxLine)
	var out bytes.Buffer
	flush := func() error {
		if err := issued.Flush(); err != nil {
			return err
		}
		_, err := out.WriteTo(env.forPrograms())
		return err
	}
	for line := 1; ; line++ {
		token, err := nextToken(in, keys, issued, opts)
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("standard input, line %d: %w", line, err), flush())
		}
		out.WriteString(token)
		if in.Buffered() == 0 || out.Len() >= tokensAtOnce {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// tokensAtOnce is how many bytes of tokens are printed together: each time the
// disk is waited for.
const tokensAtOnce = 1 << 20

// nextToken is the answer to the next line, none to an empty one.
func nextToken(in *bufio.Reader, keys *auth.Keystore, issued *auth.Issued, opts auth.DeviceOptions) (string, error) {
	name, err := readName(in)
	if err != nil || name == "" {
		return "", err
	}
	address, err := subjects.ParseAddress(name)
	if err != nil {
		return "", err
	}
	cred, err := keys.IssueDevice(address, opts)
	issued.Add(address, opts)
	return name + " " + cred.JWT + "\n", err
}

// readName reads a line, all of which is a name: it may end in spaces.
func readName(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("it is longer than %d bytes", maxLine)
	case errors.Is(err, io.EOF) && len(line) > 0:
		err = nil // the last line needs no end
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), err
}
